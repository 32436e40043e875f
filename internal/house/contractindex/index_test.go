package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// root is the top of the tree, as seen from this package.
const root = "../../../"

// Each rule of docs/contract.md has a test, each tag has a rule, and the committed index is
// the current one.
func TestIndex_IsCurrent(t *testing.T) {
	committed, err := os.ReadFile(root + indexFile)
	if err != nil {
		t.Skip("the documents are not available")
	}
	text, problems, err := index(root)
	require.NoError(t, err)
	assert.Empty(t, problems)
	assert.Equal(t, text, string(committed), "run: go run ./internal/house/contractindex")
	assert.GreaterOrEqual(t, strings.Count(text, "\n| "), 80)
}

// tree writes files into a new folder.
func tree(t *testing.T, files map[string]string) string {
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return dir
}

const contract = `
## P: waiting

| rule | what is promised |
|---|---|
| P1 | It waits. |
| P2 | It ends. |
`

func TestIndex_FindsEachKindOfTest(t *testing.T) {
	dir := tree(t, map[string]string{
		contractFile: contract,
		"a_test.go": `package a

// It waits.
// contract: P1, P2
func TestA(t *testing.T) {
	// contract: P1
	t.Run("it sleeps", func(t *testing.T) {})
	for _, c := range []struct{ name string }{
		// contract: P1
		{name: "long"},
		// contract: P1
		{"short"},
	} {
		t.Run(c.name, func(t *testing.T) {})
	}
	for name, c := range map[string]int{
		// contract: P1
		"by key": 1,
	} {
		t.Run(name, func(t *testing.T) {})
	}
}

// contract: P2
func BenchmarkA(b *testing.B) {}

// contract: P2
func FuzzA(f *testing.F) {}
`,
		suite + "cases.go": `package backendtest

var cases = []wantedCase{
	// contract: P1
	{
		name: "a case",
		rule: "P1: it waits",
	},
}

// contract: P2
func (q *queue) everyBatch() {}
`,
	})
	require.NoError(t, run(dir))
	text, err := os.ReadFile(filepath.Join(dir, indexFile))
	require.NoError(t, err)
	_, table, _ := strings.Cut(string(text), "## P: waiting\n")
	assert.Equal(t, "\n| rule | held by |\n|---|---|\n"+
		"| P1 | [a_test.go](../a_test.go): `TestA`, `TestA/by key`, `TestA/it sleeps`, `TestA/long`, `TestA/short`; "+
		"[backend/backendtest/cases.go](../backend/backendtest/cases.go): `a case` |\n"+
		"| P2 | [a_test.go](../a_test.go): `BenchmarkA`, `FuzzA`, `TestA`; "+
		"[backend/backendtest/cases.go](../backend/backendtest/cases.go): `everyBatch` |\n", table)
}

func TestIndex_FindsWhatIsWrong(t *testing.T) {
	const held = "// contract: P1, P2\nfunc TestHeld(t *testing.T) {}\n"
	for name, c := range map[string]struct{ file, source, want string }{
		"rule without a test":       {"a_test.go", "// contract: P1\nfunc TestA(t *testing.T) {}\n", "no test has the tag of rule P2"},
		"tag without a rule":        {"a_test.go", held + "// contract: P3\nfunc TestA(t *testing.T) {}\n", "TestA has the tag P3, but no rule is called that"},
		"above no test":             {"a_test.go", held + "// contract: P1\nfunc helper() {}\n", "does not stand directly above a test"},
		"above a blank line":        {"a_test.go", held + "// contract: P1\n\nfunc TestA(t *testing.T) {}\n", "does not stand directly above a test"},
		"not the last line":         {"a_test.go", held + "// contract: P1\n// Text.\nfunc TestA(t *testing.T) {}\n", "does not stand directly above a test"},
		"in a file that is no test": {"a.go", "// contract: P1\nfunc TestA() {}\n", "does not stand directly above a test"},
		"no list of rules":          {"a_test.go", held + "// contract: P1 and P2\nfunc TestA(t *testing.T) {}\n", "is not a list of rules"},
		"no rules at all":           {"a_test.go", held + "// contract:\nfunc TestA(t *testing.T) {}\n", "is not a list of rules"},
		"case with another rule":    {suite + "a.go", held + "var cases = []c{\n// contract: P1\n{\nname: \"x\",\nrule: \"P1, P2: y\",\n}}\n", "the case names rule P2"},
		"case without a tag":        {suite + "a.go", held + "var cases = []c{\n{\nname: \"x\",\nrule: \"P2: y\",\n}}\n", "has no tag"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, map[string]string{contractFile: contract, c.file: "package a\n\n" + c.source})
			_, problems, err := index(dir)
			require.NoError(t, err)
			require.NotEmpty(t, problems)
			assert.Contains(t, strings.Join(problems, "\n"), c.want)
			assert.Error(t, run(dir))
			_, err = os.Stat(filepath.Join(dir, indexFile))
			assert.Error(t, err, "an index was written")
		})
	}
}
