package house_test

import (
	"go/build"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// README.md says which system gets which queue, with which tag. The default_*.go files say
// the same to the compiler.
// contract: R9
func TestPlatforms_AreThoseOfTheREADME(t *testing.T) {
	readme, err := os.ReadFile(root + "README.md")
	if err != nil {
		t.Skip("the documents are not available")
	}
	table := platformTable(t, string(readme))
	files, err := filepath.Glob(root + "default_*.go")
	require.NoError(t, err)
	for system, queues := range table {
		for i, tags := range tagsOfTheTable {
			var chosen []string
			for _, file := range files {
				// The architecture makes no difference, but one must be named.
				c := build.Context{GOOS: system, GOARCH: "amd64", BuildTags: tags, Compiler: "gc"}
				match, err := c.MatchFile(root, filepath.Base(file))
				require.NoError(t, err, file)
				if match {
					chosen = append(chosen, strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "default_"), ".go"))
				}
			}
			assert.Equal(t, []string{strings.ReplaceAll(queues[i], "_", "")}, chosen, "%s with the tags %v: default_*.go, and README.md", system, tags)
		}
	}

	out, err := exec.Command("go", "tool", "dist", "list").Output()
	if err != nil {
		t.Skipf("the go command would list the systems: %v", err)
	}
	for pair := range strings.Lines(string(out)) {
		system, _, _ := strings.Cut(pair, "/")
		assert.Contains(t, table, system, "README.md lacks it")
	}
}

// tagsOfTheTable are the columns of the table.
var tagsOfTheTable = [][]string{nil, {"iouring"}, {"pollfd"}}

// platformTable reads the table: for each GOOS the queues, in the order of the columns.
func platformTable(t *testing.T, readme string) map[string][]string {
	table := make(map[string][]string)
	quoted := regexp.MustCompile("`([a-z0-9]+)`")
	row := regexp.MustCompile("(?m)^\\| (`[a-z0-9]+`(?:, `[a-z0-9]+`)*) \\| (\\w+) \\| (\\w+) \\| (\\w+) \\|")
	for _, m := range row.FindAllStringSubmatch(readme, -1) {
		for _, name := range quoted.FindAllStringSubmatch(m[1], -1) {
			assert.NotContains(t, table, name[1], "it is listed twice")
			table[name[1]] = m[2:5]
		}
	}
	require.Greater(t, len(table), 10, "README.md no longer has the table of platforms")
	return table
}

// Both tags at once still select exactly one queue.
func TestPlatforms_BothTagsSelectOneQueue(t *testing.T) {
	files, err := filepath.Glob(root + "default_*.go")
	require.NoError(t, err)
	if len(files) == 0 {
		t.Skip("the sources are not available")
	}
	for _, system := range []string{"linux", "freebsd", "windows"} {
		matches := 0
		for _, file := range files {
			c := build.Context{GOOS: system, GOARCH: "amd64", BuildTags: slices.Concat(tagsOfTheTable...), Compiler: "gc"}
			if match, err := c.MatchFile(root, filepath.Base(file)); err == nil && match {
				matches++
			}
		}
		assert.Equal(t, 1, matches, system)
	}
}
