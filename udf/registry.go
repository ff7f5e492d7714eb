package udf

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ReservedPrefix begins the names of the functions that every node has; no other function's may begin with it.
const ReservedPrefix = "locus."

// Reserved says whether a name is one that only Locus's own functions may have.
func Reserved(name string) bool { return strings.HasPrefix(name, ReservedPrefix) }

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
		if Reserved(n.name) {
			problems = append(problems, fmt.Errorf("udf: function %q: names that begin with %s are reserved", n.name, ReservedPrefix))
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

// With is the registry and functions of Locus's own besides, whose names are reserved. It panics if those of two are equal
// or one's is not reserved: they are chosen in the source.
func (r *Registry) With(own ...Function) *Registry {
	all := &Registry{functions: make(map[string]*native)}
	if r != nil {
		maps.Copy(all.functions, r.functions)
	}
	for _, f := range own {
		n := f.native()
		if _, twice := all.functions[n.name]; twice || n.problem != nil || !Reserved(n.name) {
			panic(fmt.Sprintf("udf: %q can't be one of Locus's own functions: %v", n.name, n.problem))
		}
		all.functions[n.name] = n
	}
	return all
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
