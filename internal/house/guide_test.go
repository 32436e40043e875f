package house_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Each Go block of docs/guide.md is the function that the comment above it names, word for word.
func TestGuide_ShowsExamplesAsTheyAre(t *testing.T) {
	guide, err := os.ReadFile(root + "docs/guide.md")
	if err != nil {
		t.Skip("the documents are not available")
	}
	blocks := regexp.MustCompile("(?s)<!-- (\\S+) (\\S+) -->\n\n```go\n(.*?)```\n").FindAllStringSubmatch(string(guide), -1)
	require.NotEmpty(t, blocks)
	assert.Len(t, blocks, strings.Count(string(guide), "```go\n"), "a block names no example")
	for _, m := range blocks {
		src, err := os.ReadFile(root + m[1])
		require.NoError(t, err)
		receiver, method, isMethod := strings.Cut(m[2], ".")
		start := "func " + m[2] + "("
		if isMethod {
			start = "func (" + receiver + ") " + method + "("
		}
		assert.True(t, strings.HasPrefix(m[3], start), "%s: another function", m[2])
		assert.True(t, strings.Contains(string(src), "\n"+m[3]), "%s: docs/guide.md shows another text than %s", m[2], m[1])
	}
}
