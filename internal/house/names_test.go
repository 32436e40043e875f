package house_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// exports holds the exported names of the packages of this module: "loop.Config.Idle" and, for
// documents that need not name the package, ".Config.Idle".
type exports map[string]bool

func (e exports) add(pkg, name string) { e[pkg+"."+name], e["."+name] = true, true }

// readExports reads the sources of the packages that programs import.
func readExports(t *testing.T) exports {
	all := make(exports)
	for _, file := range goFiles(t) {
		relative, err := filepath.Rel(root, file)
		require.NoError(t, err)
		folder := path.Dir(filepath.ToSlash(relative))
		if strings.HasSuffix(file, "_test.go") || regexp.MustCompile(`^(bench|examples|internal|backend/internal)\b`).MatchString(folder) {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, decl := range tree.Decls {
			addDeclaration(all, tree.Name.Name, decl)
		}
	}
	// The methods of sockets that come from a type that they embed.
	for _, name := range []string{"Close", "File", "SyscallConn", "SetReadBuffer", "SetWriteBuffer"} {
		for _, socket := range []string{"Conn", "Listener", "PacketConn"} {
			all.add("socket", socket+"."+name)
		}
	}
	// Package epore has these types of package backend, by other names for them.
	for name := range maps.Clone(all) {
		if rest, ok := strings.CutPrefix(name, "backend."); ok && regexp.MustCompile(`^(Interest|Readiness|Capabilities)\.`).MatchString(rest) {
			all.add("epore", rest)
		}
	}
	return all
}

func addDeclaration(all exports, pkg string, decl ast.Decl) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		name := d.Name.Name
		if d.Recv != nil {
			name = receiverName(d.Recv.List[0].Type) + "." + name
		}
		all.add(pkg, name)
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.ValueSpec:
				for _, name := range s.Names {
					all.add(pkg, name.Name)
				}
			case *ast.TypeSpec:
				all.add(pkg, s.Name.Name)
				for _, name := range fields(s.Type) {
					all.add(pkg, s.Name.Name+"."+name)
				}
			}
		}
	}
}

func receiverName(t ast.Expr) string {
	switch t := t.(type) {
	case *ast.StarExpr:
		return receiverName(t.X)
	case *ast.IndexExpr:
		return receiverName(t.X)
	case *ast.Ident:
		return t.Name
	}
	return ""
}

// fields returns the fields of a struct and the methods of an interface.
func fields(t ast.Expr) (names []string) {
	var list *ast.FieldList
	switch t := t.(type) {
	case *ast.StructType:
		list = t.Fields
	case *ast.InterfaceType:
		list = t.Methods
	default:
		return nil
	}
	for _, f := range list.List {
		for _, name := range f.Names {
			names = append(names, name.Name)
		}
	}
	return names
}

// The documents name what exists. In the tables of docs/migrating.md the last column is about
// Epore, and every exported name there is one of its names.
func TestDocuments_NamesExist(t *testing.T) {
	if _, err := os.Stat(root + "docs/migrating.md"); err != nil {
		t.Skip("the documents are not available")
	}
	all := readExports(t)
	quoted := regexp.MustCompile("`([^`\n]+)`")
	qualified := regexp.MustCompile(`\b(epore|loop|socket|tlsconn|tryio|slab|sim|backend|backendtest|iouring|pollfd|epoll|kqueue|iocp)((?:\.[A-Z]\w*)+)`)
	exported := regexp.MustCompile(`(?:^|[^\w.])([A-Z]\w*(?:\.[A-Z]\w*)*)`)
	checked := 0
	check := func(where, name string) {
		checked++
		assert.True(t, all[name], "%s names %s, which does not exist", where, strings.TrimPrefix(name, "."))
	}
	for _, name := range []string{"README.md", "docs/guide.md", "docs/faq.md", "docs/migrating.md"} {
		text := document(t, root+name)
		for _, m := range quoted.FindAllStringSubmatch(text, -1) {
			for _, q := range qualified.FindAllStringSubmatch(m[1], -1) {
				check(name, q[1]+q[2])
			}
		}
		if name != "docs/migrating.md" {
			continue
		}
		for line := range strings.Lines(text) {
			cells := strings.Split(strings.TrimSuffix(strings.TrimSpace(line), "|"), "|")
			if len(cells) < 3 {
				continue
			}
			for _, m := range quoted.FindAllStringSubmatch(cells[len(cells)-1], -1) {
				for _, e := range exported.FindAllStringSubmatch(qualified.ReplaceAllString(m[1], ""), -1) {
					if e[1] == "FD" || strings.ToUpper(e[1]) != e[1] { // not the name of an errno
						check(name, "."+e[1])
					}
				}
			}
		}
	}
	assert.Greater(t, checked, 100)
}

// The guide says what each exported error means.
func TestGuide_ExplainsEachError(t *testing.T) {
	guide, err := os.ReadFile(root + "docs/guide.md")
	if err != nil {
		t.Skip("the documents are not available")
	}
	_, table, found := strings.Cut(string(guide), "\n## What each error means\n")
	require.True(t, found)
	errorValue := regexp.MustCompile(`^(epore|loop|socket|tlsconn|tryio|fileop|sim)\.Err\w+$`)
	for name := range readExports(t) {
		if errorValue.MatchString(name) {
			assert.Contains(t, table, "`"+name+"`")
		}
	}
}
