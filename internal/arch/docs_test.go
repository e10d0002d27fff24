package arch

import (
	"go/ast"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
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

var (
	codeBlock = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	link      = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading   = regexp.MustCompile(`(?m)^#+ (.+)$`)
)

// TestEveryLinkLeadsSomewhereAndEveryPageIsLinked: pages are found from the README, and links lead to a file, and to a heading in it.
func TestEveryLinkLeadsSomewhereAndEveryPageIsLinked(t *testing.T) {
	pages := map[string]string{} // by path from the top
	err := fs.WalkDir(os.DirFS("../.."), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			b, err := os.ReadFile("../../" + path)
			pages[path] = codeBlock.ReplaceAllString(string(b), "")
			return err
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	linked := map[string]bool{"README.md": true}
	for path, page := range pages {
		for _, l := range link.FindAllStringSubmatch(page, -1) {
			if strings.Contains(l[1], "://") {
				continue
			}
			target, anchor, _ := strings.Cut(l[1], "#")
			if target == "" {
				target = path
			} else {
				target = filepath.Join(filepath.Dir(path), target)
			}
			if info, err := os.Stat("../../" + target); err != nil {
				t.Errorf("%s links to %s: %v", path, l[1], err)
			} else if info.IsDir() {
				for other := range pages {
					linked[other] = linked[other] || filepath.Dir(other) == target
				}
			}
			linked[target] = true
			if anchor != "" && !slices.Contains(anchors(pages[target]), anchor) {
				t.Errorf("%s links to %s: there is no such heading", path, l[1])
			}
		}
	}
	for path := range pages {
		if !linked[path] && !strings.HasPrefix(path, "internal/") {
			t.Errorf("no page links to %s", path)
		}
	}
}

// anchors are those of a page's headings, as GitHub makes them.
func anchors(page string) (out []string) {
	for _, h := range heading.FindAllStringSubmatch(page, -1) {
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, h[1])
		out = append(out, name)
	}
	return out
}
