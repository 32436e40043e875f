package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// tag is a comment that names the rules that a test holds.
type tag struct {
	file  string // from the top folder, with slashes
	name  string // of the test
	rules []string
}

var (
	tagLine  = regexp.MustCompile(`^// ?contract:(.*)$`)
	ruleName = regexp.MustCompile(`\b[A-Z]\d+\b`)
	testName = regexp.MustCompile(`^(Test|Benchmark|Fuzz)`)
)

// suite is the folder whose functions and cases are tests, although its files are not.
const suite = "backend/backendtest/"

// tagsOf returns the tags of the tree at root in the order of the files, and what is wrong
// with them.
func tagsOf(root string) (tags []tag, problems []string, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		src, err := os.ReadFile(path)
		file := filepath.ToSlash(relative)
		if err != nil || !(bytes.Contains(src, []byte("contract:")) || strings.HasPrefix(file, suite)) {
			return err
		}
		more, wrong, err := tagsIn(file, src)
		tags, problems = append(tags, more...), append(problems, wrong...)
		return err
	})
	return tags, problems, err
}

// tagsIn returns the tags of a file.
func tagsIn(file string, src []byte) (tags []tag, problems []string, err error) {
	set := token.NewFileSet()
	tree, err := parser.ParseFile(set, file, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, nil, err
	}
	line := func(p token.Pos) int { return set.Position(p).Line }
	complain := func(p token.Pos, format string, args ...any) {
		problems = append(problems, fmt.Sprintf("%s:%d: %s", file, line(p), fmt.Sprintf(format, args...)))
	}
	isTest := strings.HasSuffix(file, "_test.go") || strings.HasPrefix(file, suite)
	below := testsIn(tree, file, line)
	for _, group := range tree.Comments {
		for _, comment := range group.List {
			m := tagLine.FindStringSubmatch(comment.Text)
			if m == nil {
				continue
			}
			test, found := below[line(comment.Pos())+1]
			rules := strings.Split(strings.TrimSpace(m[1]), ", ")
			switch {
			case !found || !isTest:
				complain(comment.Pos(), "the tag %q does not stand directly above a test", comment.Text)
				continue
			case slices.ContainsFunc(rules, func(rule string) bool { return ruleName.FindString(rule) != rule || rule == "" }):
				complain(comment.Pos(), "%q is not a list of rules, such as R7, M2", comment.Text)
				continue
			}
			delete(below, line(comment.Pos())+1)
			for _, rule := range test.promises {
				if !slices.Contains(rules, rule) {
					complain(comment.Pos(), "the case names rule %s, and its tag does not", rule)
				}
			}
			tags = append(tags, tag{file, test.name, rules})
		}
	}
	for at, test := range below {
		if len(test.promises) > 0 {
			problems = append(problems, fmt.Sprintf("%s:%d: the case names the rules %v, and has no tag", file, at, test.promises))
		}
	}
	return tags, problems, nil
}

// test is what a tag can stand above.
type test struct {
	name     string
	promises []string // the rules in the field rule of a case
}

// testsIn returns the tests, subtests and cases of a file, by the line that they begin in.
func testsIn(tree *ast.File, file string, line func(token.Pos) int) map[int]test {
	tests := make(map[int]test)
	for _, decl := range tree.Decls {
		prefix := ""
		if f, ok := decl.(*ast.FuncDecl); ok {
			prefix = f.Name.Name + "/"
			if testName.MatchString(f.Name.Name) || strings.HasPrefix(file, suite) {
				tests[line(f.Pos())] = test{name: f.Name.Name}
			}
		}
		ast.Inspect(decl, func(n ast.Node) bool {
			if t, ok := subtest(n); ok {
				t.name = prefix + t.name
				if _, known := tests[line(n.Pos())]; !known {
					tests[line(n.Pos())] = t
				}
			}
			return true
		})
	}
	return tests
}

// subtest returns the subtest that a call of Run or an element of a table is.
func subtest(n ast.Node) (t test, ok bool) {
	switch n := n.(type) {
	case *ast.CallExpr:
		if run, isSelector := n.Fun.(*ast.SelectorExpr); isSelector && run.Sel.Name == "Run" && len(n.Args) == 2 {
			t.name, ok = text(n.Args[0])
		}
	case *ast.KeyValueExpr:
		t.name, ok = text(n.Key)
	case *ast.CompositeLit:
		for i, element := range n.Elts {
			field, isField := element.(*ast.KeyValueExpr)
			switch {
			case i == 0 && !isField:
				t.name, ok = text(element)
			case isField && isName(field.Key, "name"):
				t.name, ok = text(field.Value)
			case isField && isName(field.Key, "rule"):
				promise, _ := text(field.Value)
				t.promises = ruleName.FindAllString(promise, -1)
			}
		}
	}
	return t, ok
}

func isName(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

// text returns the value of a string literal.
func text(e ast.Expr) (string, bool) {
	literal, ok := e.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(literal.Value)
	return s, err == nil
}
