package house_test

import (
	"go/parser"
	"go/token"
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

const module = "github.com/epore/epore"

// importRules are the rows of the table in docs/design.md.
type importRules []importRule

type importRule struct {
	packages []string // patterns
	allowed  []string // patterns of packages of this module; "*" is any
	standard []string // packages of the standard library, if only these are allowed
}

// find returns the rule for a package, or nil.
func (rules importRules) find(name string) *importRule {
	for i := range rules {
		if matches(rules[i].packages, name) {
			return &rules[i]
		}
	}
	return nil
}

// matches reports whether name matches one of the patterns, in which a trailing /* stands
// for any folder below.
func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		if below, ok := strings.CutSuffix(pattern, "*"); ok {
			return strings.HasPrefix(name, below)
		}
		return pattern == name
	})
}

func readImportRules(t *testing.T) (rules importRules) {
	doc, err := os.ReadFile(root + "docs/design.md")
	if err != nil {
		t.Skip("the documents are not available")
	}
	_, section, found := strings.Cut(string(doc), "### Which package may import which")
	require.True(t, found, "docs/design.md lacks the section about imports")
	section, _, _ = strings.Cut(section, "\n## ")
	row := regexp.MustCompile(`(?m)^\| (.*) \| (.*) \|$`)
	quoted := regexp.MustCompile("`([^`]+)`")
	for _, m := range row.FindAllStringSubmatch(section, -1) {
		var rule importRule
		for _, name := range quoted.FindAllStringSubmatch(m[1], -1) {
			rule.packages = append(rule.packages, name[1])
		}
		may, only, limited := strings.Cut(m[2], "; of the standard library only ")
		if !limited {
			may, _, _ = strings.Cut(m[2], ";")
		}
		if strings.HasPrefix(may, "anything") {
			rule.allowed = []string{"*"}
		}
		for _, name := range quoted.FindAllStringSubmatch(may, -1) {
			rule.allowed = append(rule.allowed, name[1])
		}
		for _, name := range quoted.FindAllStringSubmatch(only, -1) {
			rule.standard = append(rule.standard, name[1])
		}
		if len(rule.packages) > 0 {
			rules = append(rules, rule)
		}
	}
	require.Greater(t, len(rules), 8, "docs/design.md lacks the table of imports")
	return rules
}

// Packages depend downwards only, as docs/design.md says.
func TestImports_FollowTheMap(t *testing.T) {
	rules := readImportRules(t)
	for _, file := range goFiles(t) {
		relative, err := filepath.Rel(root, file)
		require.NoError(t, err)
		if strings.HasSuffix(file, "_test.go") || strings.HasPrefix(filepath.ToSlash(relative), "bench/") {
			continue
		}
		name := path.Dir(filepath.ToSlash(relative))
		if name == "." {
			name = "epore"
		}
		rule := rules.find(name)
		if !assert.NotNil(t, rule, "docs/design.md does not say what %s may import", name) {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, spec := range tree.Imports {
			imported := strings.Trim(spec.Path.Value, `"`)
			own, isOwn := strings.CutPrefix(imported, module)
			switch own = strings.TrimPrefix(own, "/"); {
			case isOwn && own == "":
				own = "epore"
				fallthrough
			case isOwn:
				chooses := name == "epore" && strings.HasPrefix(relative, "default_") && path.Dir(own) == "backend"
				assert.True(t, chooses || matches(rule.allowed, own), "%s imports %s, against docs/design.md", relative, own)
				assert.False(t, strings.HasPrefix(own, "examples"), "%s imports an example", relative)
			case rule.standard != nil:
				assert.Contains(t, rule.standard, imported, "%s, against docs/design.md", relative)
			}
		}
	}
}
