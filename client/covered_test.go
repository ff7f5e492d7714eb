package client_test

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEveryNameHasAnExample: each exported function and method, and each option's type, is used in an example
// whose output is checked.
func TestEveryNameHasAnExample(t *testing.T) {
	files := token.NewFileSet()
	parse := func(tests bool) (list []*ast.File) {
		names, err := filepath.Glob("*.go")
		require.NoError(t, err)
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") == tests {
				f, err := parser.ParseFile(files, name, nil, parser.ParseComments)
				require.NoError(t, err)
				list = append(list, f)
			}
		}
		return list
	}
	used := make(map[string]bool)
	for _, e := range doc.Examples(parse(true)...) {
		require.True(t, e.Output != "" || e.EmptyOutput, "the output of Example%s is not checked", e.Name)
		ast.Inspect(e.Code, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				used[s.Sel.Name] = true
			}
			return true
		})
	}
	pkg, err := doc.NewFromFiles(files, parse(false), "github.com/locuskv/locus/client")
	require.NoError(t, err)
	check := func(f *doc.Func, of string) {
		if f.Name != "Error" && f.Name != "Unwrap" { // of errors
			require.True(t, used[f.Name], "%s%s is in no example", of, f.Name)
		}
	}
	for _, f := range pkg.Funcs {
		check(f, "")
	}
	for _, typ := range pkg.Types {
		for _, f := range typ.Funcs {
			check(f, "")
		}
		for _, m := range typ.Methods {
			check(m, typ.Name+".")
		}
	}
}
