package arch

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocsNameTestsThatAreThere: a guarantee that names its attack by the name of a test that was renamed says nothing.
func TestDocsNameTestsThatAreThere(t *testing.T) {
	declared := map[string]bool{}
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && s.isTest() && f.Recv == nil {
				declared[f.Name.Name] = true
			}
		}
	}
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, page := range append(pages, "../../README.md", "../../ARCHITECTURE.md") {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w*)`").FindAllStringSubmatch(string(b), -1) {
			named++
			if !declared[name[1]] {
				t.Errorf("%s names %s, which is no test", filepath.Base(page), name[1])
			}
		}
	}
	if named == 0 {
		t.Error("no page names a test")
	}
}

// TestEveryGuaranteeIsAttacked: the page of attacks has each guarantee of ARCHITECTURE.md, under its name.
func TestEveryGuaranteeIsAttacked(t *testing.T) {
	stated, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	attacks, err := os.ReadFile("../../docs/guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	guarantees := regexp.MustCompile(`(?m)^(\d+)\. \*\*([^*]+)\*\*`).FindAllStringSubmatch(string(stated), -1)
	if len(guarantees) != 12 {
		t.Fatalf("ARCHITECTURE.md states %d guarantees", len(guarantees))
	}
	_, rest, _ := strings.Cut(string(attacks), "## Each guarantee")
	for _, g := range guarantees {
		number, words := g[1], strings.TrimSuffix(strings.Join(strings.Fields(g[2]), " "), ".")
		heading := regexp.MustCompile(`(?m)^### ` + number + `\. (.+)$`).FindStringSubmatch(rest)
		switch {
		case heading == nil:
			t.Errorf("no heading for guarantee %s", number)
		case !strings.HasPrefix(words, heading[1]) && !strings.HasPrefix(heading[1], words):
			t.Errorf("guarantee %s is called %q there and %q here", number, words, heading[1])
		}
	}
}
