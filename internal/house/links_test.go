package house_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	markdownLink    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	markdownHeading = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	fencedBlock     = regexp.MustCompile("(?ms)^```.*?^```")
	notInAnchor     = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// Relative links of the documents lead to a file that exists, and to a heading in it.
func TestDocuments_LinksLeadSomewhere(t *testing.T) {
	links := 0
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".md" {
			return err
		}
		for _, m := range markdownLink.FindAllStringSubmatch(document(t, path), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			links++
			file, anchor, _ := strings.Cut(m[1], "#")
			target := path
			if file != "" {
				target = filepath.Join(filepath.Dir(path), file)
			}
			if _, err := os.Stat(target); !assert.NoError(t, err, "%s: %s", path, m[1]) || anchor == "" {
				continue
			}
			assert.Contains(t, anchors(document(t, target)), anchor, "%s: %s", path, m[1])
		}
		return nil
	}))
	if links == 0 {
		t.Skip("the documents are not available")
	}
}

// document returns the text of a document without its code blocks.
func document(t *testing.T, path string) string {
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return fencedBlock.ReplaceAllString(string(text), "")
}

// anchors returns the anchors that GitHub gives the headings of a document.
func anchors(text string) (all []string) {
	for _, m := range markdownHeading.FindAllStringSubmatch(text, -1) {
		heading := notInAnchor.ReplaceAllString(strings.ToLower(strings.TrimSpace(m[1])), "")
		all = append(all, strings.ReplaceAll(heading, " ", "-"))
	}
	return all
}
