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
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// diagrams returns the Mermaid diagrams of docs/design.md that begin with kind.
func diagrams(t *testing.T, kind string) (found []string) {
	doc, err := os.ReadFile(root + "docs/design.md")
	if err != nil {
		t.Skip("the documents are not available")
	}
	for _, m := range regexp.MustCompile("(?s)```mermaid\n(.*?)```").FindAllStringSubmatch(string(doc), -1) {
		if strings.HasPrefix(m[1], kind) {
			found = append(found, m[1])
		}
	}
	require.NotEmpty(t, found, "docs/design.md has no %s", kind)
	return found
}

// groups are the nodes of the diagram of the house, with the patterns of their packages. A node
// without a label is its only package.
type groups map[string][]string

func (g groups) of(pkg string) string {
	best, length := "", -1
	for name, patterns := range g {
		for _, pattern := range patterns {
			if matches([]string{pattern}, pkg) && len(pattern) > length {
				best, length = name, len(pattern)
			}
		}
	}
	return best
}

// The diagram of the house shows every package that is more than tests, and has an arrow
// between two groups exactly if a package of the one imports a package of the other.
func TestDiagrams_HouseIsAsImported(t *testing.T) {
	diagram := diagrams(t, "flowchart")[0]
	nodes, drawn := make(groups), make(map[string]bool)
	label := regexp.MustCompile(`(\w+)\["([^"]*)"\]`)
	for _, m := range label.FindAllStringSubmatch(diagram, -1) {
		nodes[m[1]] = strings.Split(m[2], ", ")
	}
	plain := label.ReplaceAllString(diagram, "$1")
	for _, m := range regexp.MustCompile(`(?m)^ +(\w+) --> (.*)$`).FindAllStringSubmatch(plain, -1) {
		for _, to := range strings.Split(m[2], " & ") {
			drawn[m[1]+" --> "+to] = true
			for _, name := range []string{m[1], to} {
				if nodes[name] == nil {
					nodes[name] = []string{name}
				}
			}
		}
	}

	rules := readImportRules(t)
	imported := make(map[string]bool)
	for _, file := range goFiles(t) {
		relative, err := filepath.Rel(root, file)
		require.NoError(t, err)
		name := path.Dir(filepath.ToSlash(relative))
		if name == "." {
			name = "epore"
		}
		rule := rules.find(name)
		if strings.HasSuffix(file, "_test.go") || strings.HasPrefix(name, "bench") || rule == nil || slices.Equal(rule.allowed, []string{"*"}) {
			continue // tests, and what only tests import
		}
		from := nodes.of(name)
		if !assert.NotEmpty(t, from, "the diagram of docs/design.md lacks %s", name) {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, spec := range tree.Imports {
			pkg, ok := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), module)
			if !ok {
				continue
			}
			if pkg = strings.TrimPrefix(pkg, "/"); pkg == "" {
				pkg = "epore"
			}
			if to := nodes.of(pkg); to != from {
				imported[from+" --> "+to] = true
			}
		}
	}
	assert.Equal(t, slices.Sorted(maps.Keys(imported)), slices.Sorted(maps.Keys(drawn)), "the imports, and the arrows of docs/design.md")
}

// Names with parentheses in the diagrams are functions: "Table.Keep()".
func TestDiagrams_FunctionsExist(t *testing.T) {
	functions := make(map[string]bool)
	for _, folder := range []string{".", "internal/slots", "backend"} {
		files, err := filepath.Glob(root + folder + "/*.go")
		require.NoError(t, err)
		for _, file := range files {
			for _, decl := range parseFile(t, file).Decls {
				addFunctions(functions, decl)
			}
		}
	}
	checked := 0
	for _, diagram := range append(diagrams(t, "sequenceDiagram"), diagrams(t, "stateDiagram")...) {
		for _, m := range regexp.MustCompile(`(\w+\.\w+)\(`).FindAllStringSubmatch(diagram, -1) {
			checked++
			assert.True(t, functions[m[1]], "a diagram of docs/design.md names %s", m[1])
		}
	}
	assert.Greater(t, checked, 15)
}

// addFunctions adds the methods that a declaration defines, exported or not.
func addFunctions(functions map[string]bool, decl ast.Decl) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Recv != nil {
			functions[receiverName(d.Recv.List[0].Type)+"."+d.Name.Name] = true
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			if s, ok := spec.(*ast.TypeSpec); ok {
				if _, ok := s.Type.(*ast.InterfaceType); ok {
					for _, name := range fields(s.Type) {
						functions[s.Name.Name+"."+name] = true
					}
				}
			}
		}
	}
}

// The states of the diagram of a sleeping Poll are the values of Poll.sleeping.
func TestDiagrams_StatesOfASleepingPoll(t *testing.T) {
	var constants []string
	for _, decl := range parseFile(t, root+"poll.go").Decls {
		d, ok := decl.(*ast.GenDecl)
		if !ok || !strings.Contains(d.Doc.Text(), "The values of Poll.sleeping") {
			continue
		}
		for _, spec := range d.Specs {
			constants = append(constants, spec.(*ast.ValueSpec).Names[0].Name)
		}
	}
	states := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^ +(\S+) --> (\S+) :`).FindAllStringSubmatch(diagrams(t, "stateDiagram")[0], -1) {
		states[m[1]], states[m[2]] = true, true
	}
	delete(states, "[*]")
	assert.ElementsMatch(t, constants, slices.Collect(maps.Keys(states)))
}

func parseFile(t *testing.T, file string) *ast.File {
	tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
	if os.IsNotExist(err) {
		t.Skip("the sources are not available")
	}
	require.NoError(t, err)
	return tree
}
