package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const (
	contractFile = "docs/contract.md"
	indexFile    = "docs/contract-index.md"
)

// heading begins the index.
const heading = `<!-- written by go run ./internal/house/contractindex; not by hand -->

# Which tests hold which rule

This lists, for each rule of the [contract](contract.md), the tests that hold it. A test names
its rules in a comment directly above it, such as ` + "`// contract: R7, M2`" + `. Names without
` + "`Test`" + ` are cases of the suite in ` + "`backend/backendtest`" + `, which runs on every queue.
`

// section is a table of rules.
type section struct {
	title string
	rules []string
}

var (
	sectionLine = regexp.MustCompile(`^## ([A-Z]: .*)$`)
	ruleLine    = regexp.MustCompile(`^\| ([A-Z]\d+) \| `)
)

// sectionsOf returns the rules of the contract.
func sectionsOf(contract string) (list []section) {
	for line := range strings.Lines(contract) {
		if m := sectionLine.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			list = append(list, section{title: m[1]})
		}
		if m := ruleLine.FindStringSubmatch(line); m != nil && len(list) > 0 {
			last := &list[len(list)-1]
			last.rules = append(last.rules, m[1])
		}
	}
	return list
}

// index returns the text of the index of the tree at root, and what is wrong with the tags.
func index(root string) (text string, problems []string, err error) {
	contract, err := os.ReadFile(filepath.Join(root, contractFile))
	if err != nil {
		return "", nil, err
	}
	tags, problems, err := tagsOf(root)
	if err != nil {
		return "", nil, err
	}
	tests := make(map[string]map[string][]string) // rule, file, names
	for _, t := range tags {
		for _, rule := range t.rules {
			if tests[rule] == nil {
				tests[rule] = make(map[string][]string)
			}
			tests[rule][t.file] = append(tests[rule][t.file], t.name)
		}
	}

	var b strings.Builder
	b.WriteString(heading)
	known := make(map[string]bool)
	for _, s := range sectionsOf(string(contract)) {
		fmt.Fprintf(&b, "\n## %s\n\n| rule | held by |\n|---|---|\n", s.title)
		for _, rule := range s.rules {
			if known[rule] {
				problems = append(problems, fmt.Sprintf("%s: two rules %s", contractFile, rule))
			}
			known[rule] = true
			if len(tests[rule]) == 0 {
				problems = append(problems, fmt.Sprintf("%s: no test has the tag of rule %s", contractFile, rule))
			}
			fmt.Fprintf(&b, "| %s | %s |\n", rule, listOf(tests[rule]))
		}
	}
	for _, t := range tags {
		for _, rule := range t.rules {
			if !known[rule] {
				problems = append(problems, fmt.Sprintf("%s: %s has the tag %s, but no rule is called that", t.file, t.name, rule))
			}
		}
	}
	slices.SortFunc(problems, cmp.Compare[string])
	return b.String(), problems, nil
}

// listOf returns the names of tests, with links to their files.
func listOf(tests map[string][]string) string {
	var files []string
	for _, file := range slices.Sorted(maps.Keys(tests)) {
		names := tests[file]
		slices.Sort(names)
		files = append(files, fmt.Sprintf("[%s](../%s): `%s`", file, file, strings.Join(names, "`, `")))
	}
	return strings.Join(files, "; ")
}
