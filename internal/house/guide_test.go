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
	blocks := regexp.MustCompile("(?s)<!-- (\\S+) (Example\\w*) -->\n\n```go\n(.*?)```\n").FindAllStringSubmatch(string(guide), -1)
	require.NotEmpty(t, blocks)
	assert.Len(t, blocks, strings.Count(string(guide), "```go\n"), "a block names no example")
	for _, m := range blocks {
		src, err := os.ReadFile(root + m[1])
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(m[3], "func "+m[2]+"("), "%s: another function", m[2])
		assert.True(t, strings.Contains(string(src), "\n"+m[3]), "%s: docs/guide.md shows another text than %s", m[2], m[1])
	}
}
