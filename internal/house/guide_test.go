package house_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Each Go block of the documents below stands in the file that the comment above it names,
// word for word, and begins with the function, method or type that the comment names. An
// Example has an output, so that go test runs it.
func TestGuide_ShowsExamplesAsTheyAre(t *testing.T) {
	for _, name := range []string{"guide.md", "simulation.md", "faq.md", "migrating.md"} {
		guide, err := os.ReadFile(root + "docs/" + name)
		if err != nil {
			t.Skip("the documents are not available")
		}
		blocks := regexp.MustCompile("(?s)<!-- (\\S+) (\\S+) -->\n\n```go\n(.*?)```\n").FindAllStringSubmatch(string(guide), -1)
		require.Equal(t, name == "guide.md" || name == "simulation.md", len(blocks) > 0, name)
		assert.Len(t, blocks, strings.Count(string(guide), "```go\n"), "%s: a block names no example", name)
		for _, m := range blocks {
			src, err := os.ReadFile(root + m[1])
			require.NoError(t, err)
			assert.Regexp(t, declarationOf(m[2]), m[3], "%s: another function", m[2])
			assert.True(t, strings.Contains(string(src), "\n"+m[3]), "%s: docs/%s shows another text than %s", m[2], name, m[1])
			if strings.HasPrefix(m[2], "Example") {
				assert.Regexp(t, `(?m)^\t// Output:`, m[3], "go test does not run %s", m[2])
			}
		}
	}
}

// declarationOf returns a pattern for the first line of the declaration of a function, a type
// or a method ("T.f").
func declarationOf(name string) string {
	receiver, method, isMethod := strings.Cut(name, ".")
	if isMethod {
		return `^func \((\w+ )?\*?` + receiver + `\) ` + method + `\(`
	}
	return `^(func ` + name + `\(|type ` + name + ` )`
}
