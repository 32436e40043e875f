package house_test

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// root is the top of the tree, as seen from this package.
const root = "../../"

// looked holds the names of the tests that have read the sources.
var looked sync.Map

// goFiles returns the Go files of the module. It skips the test if there are none, because a
// test binary runs on a machine without the sources, and if the test is repeated, because
// the sources have not changed.
func goFiles(t *testing.T) (paths []string) {
	if _, again := looked.LoadOrStore(t.Name(), true); again {
		t.Skip("the sources were checked already")
	}
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".go") {
			paths = append(paths, path)
		}
		return err
	}))
	if len(paths) == 0 {
		t.Skip("the sources are not available")
	}
	return paths
}

func TestSources_AreFormatted(t *testing.T) {
	for _, path := range goFiles(t) {
		src, err := os.ReadFile(path)
		require.NoError(t, err)
		want, err := format.Source(src)
		require.NoError(t, err, path)
		assert.True(t, bytes.Equal(want, src), "%s: run gofmt", path)
	}
}

// The default_*.go files say which system gets which queue, and nothing else does. In package
// socket a list of systems stands once for each feature, in a file named after the feature:
// files of one feature may say "these systems" and "all others", but not two different lists.
// Other files may be for one system, or for all except one.
func TestSources_PlatformListsStandOnce(t *testing.T) {
	constraint := regexp.MustCompile(`(?m)^//go:build .*$`)
	system := regexp.MustCompile(`\b(aix|darwin|dragonfly|freebsd|illumos|linux|netbsd|openbsd|plan9|solaris|windows|js|wasip1)\b`)
	feature := regexp.MustCompile(`^([a-z0-9]+)_[a-z0-9]+\.go$`)
	listOf := make(map[string]string) // the systems that a feature of package socket lists
	for _, path := range goFiles(t) {
		base := filepath.Base(path)
		if strings.HasPrefix(base, "default_") {
			continue
		}
		src, err := os.ReadFile(path)
		require.NoError(t, err)
		line := constraint.FindString(string(src))
		systems := system.FindAllString(line, -1)
		if m := feature.FindStringSubmatch(base); filepath.Base(filepath.Dir(path)) == "socket" && m != nil && len(systems) > 1 {
			slices.Sort(systems)
			list := strings.Join(systems, " ")
			if known, ok := listOf[m[1]]; ok {
				assert.Equal(t, known, list, "%s: another list for %s: %s", path, m[1], line)
			}
			listOf[m[1]] = list
			continue
		}
		assert.LessOrEqual(t, len(systems), 1, "%s: %s", path, line)
		assert.NotContains(t, line, "iouring", path)
		assert.NotContains(t, line, "pollfd", path)
	}
}

// Every exported name has a doc comment.
func TestSources_ExportedNamesAreDocumented(t *testing.T) {
	for _, path := range goFiles(t) {
		if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, root+"examples") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, decl := range file.Decls {
			for name, doc := range exported(decl) {
				assert.NotEmpty(t, strings.TrimSpace(doc.Text()), "%s: %s has no doc comment", path, name)
			}
		}
	}
}

// exported returns the exported names of a declaration with their doc comments.
func exported(decl ast.Decl) map[string]*ast.CommentGroup {
	found := make(map[string]*ast.CommentGroup)
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && (d.Recv == nil || receiverIsExported(d.Recv.List[0].Type)) {
			found[d.Name.Name] = d.Doc
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() {
					found[s.Name.Name] = either(s.Doc, d.Doc)
				}
			case *ast.ValueSpec:
				for _, name := range s.Names {
					if name.IsExported() {
						found[name.Name] = either(s.Doc, d.Doc)
					}
				}
			}
		}
	}
	return found
}

func receiverIsExported(t ast.Expr) bool {
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	name, ok := t.(*ast.Ident)
	return ok && name.IsExported()
}

func either(a, b *ast.CommentGroup) *ast.CommentGroup {
	if a != nil {
		return a
	}
	return b
}
