package house_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Users copy examples. So the examples in the package documentation handle every error: no
// result of type error is dropped or assigned to the blank identifier.
func TestExamples_HandleTheirErrors(t *testing.T) {
	files := goFiles(t)
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip(err)
	}
	examples := make(map[string][]string) // files of external tests, by folder
	for _, file := range files {
		folder := filepath.Dir(file)
		if match, err := build.Default.MatchFile(folder, filepath.Base(file)); err != nil || !match || strings.HasPrefix(file, root+"examples") {
			continue
		}
		if strings.HasSuffix(file, "_test.go") {
			examples[folder] = append(examples[folder], file)
		}
	}
	var folders []string
	for folder, files := range examples {
		if slices.ContainsFunc(files, isExample) {
			folders = append(folders, folder)
		}
	}
	require.Greater(t, len(folders), 5)

	exports := exportData(t, goTool, folders)
	checked := 0
	for _, folder := range folders {
		set := token.NewFileSet()
		var all []*ast.File
		for _, file := range examples[folder] {
			tree, err := parser.ParseFile(set, file, nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			if strings.HasSuffix(tree.Name.Name, "_test") {
				all = append(all, tree)
			}
		}
		info := &types.Info{Types: make(map[ast.Expr]types.TypeAndValue)}
		config := types.Config{
			Importer: importer.ForCompiler(set, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }),
			Error:    func(error) {}, // tests use names of export_test.go, which examples cannot
		}
		_, _ = config.Check(folder, set, all, info)
		for _, tree := range all {
			if !isExample(set.File(tree.Pos()).Name()) {
				continue
			}
			checked++
			ast.Inspect(tree, func(n ast.Node) bool {
				if dropsError(info, n) {
					t.Errorf("%s: an error is not handled", set.Position(n.Pos()))
				}
				return true
			})
		}
	}
	assert.Greater(t, checked, 8)
}

func isExample(file string) bool { return strings.HasPrefix(filepath.Base(file), "example_") }

// exportData returns the file with the types of each package that the tests in the folders
// import, by import path.
func exportData(t *testing.T, goTool string, folders []string) map[string]string {
	args := []string{"list", "-export", "-deps", "-test", "-f", "{{.ImportPath}}={{.Export}}"}
	for _, folder := range folders {
		relative, err := filepath.Rel(root, folder)
		require.NoError(t, err)
		args = append(args, "./"+filepath.ToSlash(relative))
	}
	cmd := exec.Command(goTool, args...)
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s", &stderr)
	files := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "=")
		files[path] = file
	}
	return files
}

// dropsError reports whether a statement ignores an error. Deferred calls may, and so may what
// prints, and buffers in memory, which never fail.
func dropsError(info *types.Info, n ast.Node) bool {
	switch n := n.(type) {
	case *ast.ExprStmt:
		call, ok := n.X.(*ast.CallExpr)
		return ok && slices.Contains(resultsOf(info, call), "error") && !neverFails(info, call)
	case *ast.GoStmt:
		return slices.Contains(resultsOf(info, n.Call), "error")
	case *ast.AssignStmt:
		for i, left := range n.Lhs {
			var result []string
			for _, right := range n.Rhs {
				result = append(result, resultsOf(info, right)...)
			}
			if name, ok := left.(*ast.Ident); ok && name.Name == "_" && i < len(result) && result[i] == "error" {
				return true
			}
		}
	}
	return false
}

// resultsOf returns the types of what an expression yields.
func resultsOf(info *types.Info, e ast.Expr) (list []string) {
	switch t := info.Types[e].Type.(type) {
	case nil:
	case *types.Tuple:
		for v := range t.Variables() {
			list = append(list, v.Type().String())
		}
	default:
		list = append(list, t.String())
	}
	return list
}

func neverFails(info *types.Info, call *ast.CallExpr) bool {
	f, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	if x, ok := f.X.(*ast.Ident); ok && x.Name == "fmt" && strings.HasPrefix(f.Sel.Name, "Print") {
		return true
	}
	receiver := strings.TrimPrefix(fmt.Sprint(info.Types[f.X].Type), "*")
	return receiver == "strings.Builder" || receiver == "bytes.Buffer"
}
