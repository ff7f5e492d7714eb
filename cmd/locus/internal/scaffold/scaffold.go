package scaffold

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/locuskv/locus/udf"
)

//go:embed templates
var templates embed.FS

// Languages are those that have an SDK.
var Languages = []string{"go", "rust", "c"}

// maxName is the longest name of a function.
const maxName = 100

// CheckName refuses a name that can't be that of a function, a folder, a Go module and a make target alike.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("the name is empty")
	case len(name) > maxName:
		return fmt.Errorf("the name has %d bytes, more than the limit of %d", len(name), maxName)
	}
	for i := range len(name) {
		c := name[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || i > 0 && (c == '-' || c == '_')) {
			return fmt.Errorf("the name %q may hold letters, digits, '-' and '_' only, and begins with a letter or digit", name)
		}
	}
	return nil
}

// Write makes a project in a folder that does not exist yet or is empty, and returns its files.
func Write(dir, language, name string) (files []string, err error) {
	if !slices.Contains(Languages, language) {
		return nil, fmt.Errorf("language %q is none of %s", language, strings.Join(Languages, ", "))
	}
	if err := CheckName(name); err != nil {
		return nil, err
	}
	there, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if len(there) > 0 {
		return nil, fmt.Errorf("%s exists and is not empty", dir)
	}
	project, err := contents(language, name)
	if err != nil {
		return nil, err
	}
	for file, text := range project {
		files = append(files, file)
		at := filepath.Join(dir, filepath.FromSlash(file))
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return nil, err
		}
		mode := fs.FileMode(0o644)
		if path.Ext(file) == ".sh" {
			mode = 0o755
		}
		if err := os.WriteFile(at, text, mode); err != nil {
			return nil, err
		}
	}
	slices.Sort(files)
	return files, nil
}

// contents is a project: what is in its files, by their names.
func contents(language, name string) (map[string][]byte, error) {
	out := make(map[string][]byte)
	root := "templates/" + language
	err := fs.WalkDir(templates, root, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := fs.ReadFile(templates, p)
		file := strings.TrimSuffix(strings.TrimPrefix(p, root+"/"), ".txt")
		out[strings.ReplaceAll(file, "NAME", name)] = []byte(strings.ReplaceAll(string(text), "NAME", name))
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, addSDK(out, language)
}

// sdk says where the files of an SDK go, by their path in udf.GuestSources.
var sdk = map[string]map[string]string{
	"c":    {"guest/c": "."},
	"rust": {"guest/rust": "locus", "guest/rust/src": "locus/src"},
	"go": {
		"guest": "locus/udf/guest", "guest/bare": "locus/udf/guest/bare",
		"internal/shape": "locus/udf/internal/shape", "internal/coder": "locus/udf/internal/coder",
	},
}

func addSDK(out map[string][]byte, language string) error {
	for from, to := range sdk[language] {
		entries, err := fs.ReadDir(udf.GuestSources(), from)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.IsDir() || strings.HasSuffix(e.Name(), "_test.go") {
				continue
			}
			if out[path.Join(to, e.Name())], err = fs.ReadFile(udf.GuestSources(), path.Join(from, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
