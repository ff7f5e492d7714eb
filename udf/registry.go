package udf

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Registry holds the native functions of a node. It is made once and never changes; there is no global
// one. The nil Registry is empty.
type Registry struct{ functions map[string]*native }

// NewRegistry makes a registry. A nil function, a bad name, two functions of one name, and a type that the
// function's codec can't carry are errors; all of them are reported.
func NewRegistry(functions ...Function) (*Registry, error) {
	r := &Registry{functions: make(map[string]*native, len(functions))}
	var problems []error
	for i, f := range functions {
		if f == nil {
			problems = append(problems, fmt.Errorf("udf: function %d of the registry is nil", i))
			continue
		}
		n := f.native()
		if n.problem != nil {
			problems = append(problems, n.problem)
		}
		if _, twice := r.functions[n.name]; twice {
			problems = append(problems, fmt.Errorf("udf: two functions are named %q", n.name))
		}
		r.functions[n.name] = n
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return r, nil
}

// Lookup finds a function by its name.
func (r *Registry) Lookup(name string) (Runnable, bool) {
	if r == nil {
		return nil, false
	}
	n, ok := r.functions[name]
	if !ok {
		return nil, false
	}
	return n, true
}

// Names lists the functions in the order of their names.
func (r *Registry) Names() []string {
	if r == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(r.functions))
}
