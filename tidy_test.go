package epore_test

import (
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// looked are the tests that have looked at the sources.
var looked sync.Map

// goFiles returns the Go files of the module. On a bare machine, where a test
// binary runs without its sources, there are none; and when tests are repeated,
// the sources are as they were.
func goFiles(t *testing.T) (paths []string) {
	if _, again := looked.LoadOrStore(t.Name(), true); again {
		t.Skip("looked at already")
	}
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".go") {
			paths = append(paths, path)
		}
		return err
	}))
	if len(paths) == 0 {
		t.Skip("the sources are not here")
	}
	return paths
}

func TestSourcesAreFormatted(t *testing.T) {
	for _, path := range goFiles(t) {
		src, err := os.ReadFile(path)
		require.NoError(t, err)
		want, err := format.Source(src)
		require.NoError(t, err, path)
		assert.Equal(t, string(want), string(src), "%s: run gofmt", path)
	}
}

// Which system gets which queue is said in default_*.go, and nowhere else: other
// files may be for one system, or for all but one.
func TestPlatformListsStandOnce(t *testing.T) {
	constraint := regexp.MustCompile(`(?m)^//go:build .*$`)
	system := regexp.MustCompile(`\b(aix|darwin|dragonfly|freebsd|illumos|linux|netbsd|openbsd|plan9|solaris|windows|js|wasip1)\b`)
	for _, path := range goFiles(t) {
		if base := filepath.Base(path); strings.HasPrefix(base, "default_") || strings.HasPrefix(base, "select_") {
			continue
		}
		src, err := os.ReadFile(path)
		require.NoError(t, err)
		line := constraint.FindString(string(src))
		assert.LessOrEqual(t, len(system.FindAllString(line, -1)), 1, "%s: %s", path, line)
		assert.NotContains(t, line, "iouring", path)
		assert.NotContains(t, line, "pollfd", path)
	}
}

// Every exported symbol says what it means.
func TestEverythingIsDocumented(t *testing.T) {
	for _, path := range goFiles(t) {
		if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "examples") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, decl := range file.Decls {
			for name, doc := range exported(decl) {
				assert.NotEmpty(t, strings.TrimSpace(doc.Text()), "%s: %s has no comment", path, name)
			}
		}
	}
}

// exported returns the exported names of a declaration with their comments.
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

// docs/contract.md names the tests that hold each rule; they must exist.
func TestTheContractNamesItsTests(t *testing.T) {
	doc, err := os.ReadFile("docs/contract.md")
	if err != nil {
		t.Skip("the documents are not here")
	}
	var sources strings.Builder
	for _, path := range goFiles(t) {
		src, err := os.ReadFile(path)
		require.NoError(t, err)
		sources.Write(src)
	}
	text := regexp.MustCompile(`name:\s+"`).ReplaceAllString(sources.String(), `name: "`)
	rules := 0
	row := regexp.MustCompile(`(?m)^\| ([PRMSNE]\d+) \|.*\| (.*) \|$`)
	quoted := regexp.MustCompile("`([^`]+)`")
	for _, m := range row.FindAllStringSubmatch(string(doc), -1) {
		rules++
		names := quoted.FindAllStringSubmatch(m[2], -1)
		assert.NotEmpty(t, names, "%s is held by nothing", m[1])
		for _, name := range names {
			definition := `name: "` + name[1] + `",`
			if regexp.MustCompile(`^(Test|Benchmark)\w+$`).MatchString(name[1]) {
				definition = "func " + name[1] + "("
			}
			assert.True(t, strings.Contains(text, definition), "%s: there is no %s", m[1], name[1])
		}
	}
	assert.GreaterOrEqual(t, rules, 40)
}
