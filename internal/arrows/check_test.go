package arrows

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A violation is one import against the rules.
type violation struct {
	at      string // file:line
	imports string
	reason  string
}

func (v violation) String() string {
	return fmt.Sprintf("%s imports %q: %s", v.at, v.imports, v.reason)
}

// check reads the imports of all Go files in a tree, and returns those that break a rule, in the order of
// files, and the number of files that it read.
func check(tree fs.FS) (bad []violation, files int, err error) {
	err = fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && skipped(tree, name):
			return fs.SkipDir
		case entry.IsDir() || path.Ext(name) != ".go":
			return nil
		}
		files++
		found, err := checkFile(tree, name)
		bad = append(bad, found...)
		return err
	})
	return bad, files, err
}

// skipped are folders that are not part of the module: hidden ones, test data, modules of their own.
func skipped(tree fs.FS, dir string) bool {
	if dir == "." {
		return false
	}
	base := path.Base(dir)
	if strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" || base == "vendor" {
		return true
	}
	_, err := fs.Stat(tree, path.Join(dir, "go.mod"))
	return err == nil
}

func checkFile(tree fs.FS, name string) ([]violation, error) {
	source, err := fs.ReadFile(tree, name)
	if err != nil {
		return nil, err
	}
	positions := token.NewFileSet()
	file, err := parser.ParseFile(positions, name, source, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	var bad []violation
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		if reason := forbidden(name, imported); reason != "" {
			at := fmt.Sprintf("%s:%d", name, positions.Position(spec.Pos()).Line)
			bad = append(bad, violation{at: at, imports: imported, reason: reason})
		}
	}
	return bad, nil
}

// forbidden says why a file may not import a path; empty if it may.
func forbidden(name, imported string) string {
	dir, test := path.Dir(name), strings.HasSuffix(name, "_test.go")
	r := roomOf(dir)
	if r == nil {
		return "the folder belongs to no room; give it a rule in internal/arrows/rules.go"
	}
	if target, ok := strings.CutPrefix(imported+"/", module); ok {
		return r.forbidden(dir, strings.TrimSuffix(target, "/"), test)
	}
	for _, o := range owners {
		if below(imported, o.imports) && !below(dir, o.rooms) && !(o.tests && test) {
			return fmt.Sprintf("only %s may", strings.Join(o.rooms, ", "))
		}
	}
	if !test && below(imported, r.never) {
		return r.because
	}
	return ""
}

// forbidden says why a file of dir, in the room, may not import another folder of the module.
func (r *room) forbidden(dir, target string, test bool) string {
	to := roomOf(target)
	switch {
	case to == nil:
		return "the imported folder belongs to no room; give it a rule in internal/arrows/rules.go"
	case to == r || target == dir: // an external test imports its own package
		return ""
	case r.path != leaf && below(to.path, []string{r.path}): // a part of the room with a rule of its own
		return ""
	case known(r.knows, to, target), test && known(r.tests, to, target):
		return ""
	}
	return fmt.Sprintf("%s must not know %s: %s", r.path, to.path, r.because)
}

// known says whether a folder, of the room to, is in a list of those that may be imported.
func known(list []string, to *room, target string) bool {
	return slices.ContainsFunc(list, func(path string) bool {
		if path == leaf {
			return to.path == leaf
		}
		return below(target, []string{path})
	})
}

// roomOf finds the room of a folder by the longest path that fits; nil if there is none.
func roomOf(dir string) *room {
	var best *room
	for i := range rooms {
		if r := &rooms[i]; below(dir, []string{r.path}) && (best == nil || len(r.path) > len(best.path)) {
			best = r
		}
	}
	return best
}

// below says whether a path is one of some others or lies under it.
func below(p string, roots []string) bool {
	return slices.ContainsFunc(roots, func(root string) bool { return p == root || strings.HasPrefix(p, root+"/") })
}
