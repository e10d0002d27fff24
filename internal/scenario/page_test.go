package scenario

import (
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// A page is what a person sees of one at a moment.
type page struct{ root *html.Node }

// page opens a page of a publisher as a browser without scripts does.
func (p *pub) page(path string) page {
	p.w.t.Helper()
	status, body := get(p.w.t, p.calls().Server()+path)
	if status != http.StatusOK {
		p.w.t.Fatalf("%s: %d: %s", path, status, body)
	}
	root, err := html.Parse(strings.NewReader(body))
	must(p.w.t, err)
	return page{root}
}

// find is the first element for which is says so, from a node on; nil where there is none.
func find(n *html.Node, is func(*html.Node) bool) *html.Node {
	for c := range n.Descendants() {
		if c.Type == html.ElementNode && is(c) {
			return c
		}
	}
	return nil
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// seen are the words of a part of a page. Drawings say nothing: beside each stands a word; nor does what is hidden.
func seen(n *html.Node) string {
	var words []string
	var walk func(*html.Node)
	walk = func(n *html.Node) {
		if n.Type == html.TextNode {
			words = append(words, strings.Fields(n.Data)...)
		}
		for c := range n.ChildNodes() {
			if c.Data != "svg" && c.Data != "script" && c.Data != "head" && c.Data != "datalist" {
				walk(c)
			}
		}
	}
	if n != nil {
		walk(n)
	}
	return strings.Join(words, " ")
}

// headline is what the page says first of all.
func (p page) headline() string {
	return seen(find(p.root, func(n *html.Node) bool { return n.Data == "h1" }))
}

// all is everything that is seen below the navigation.
func (p page) all() *html.Node {
	return find(p.root, func(n *html.Node) bool { return n.Data == "main" })
}

// row is the line of an environment on the overview; nil where there is none.
func (p page) row(environment string) *html.Node {
	return find(p.root, func(n *html.Node) bool {
		id := attribute(n, "id")
		return n.Data == "tr" && (id == "attention-"+environment || id == "all-"+environment)
	})
}

// state is the first state in a part of a page, which is said thrice: by word, by drawing and by colour. They agree, or the test fails.
func state(t testing.TB, n *html.Node) string {
	t.Helper()
	if n == nil {
		return ""
	}
	badge := find(n, func(n *html.Node) bool { return strings.HasPrefix(attribute(n, "class"), "state s-") })
	if badge == nil {
		return ""
	}
	word := seen(badge)
	slug := strings.ReplaceAll(word, " ", "-")
	drawn := find(badge, func(n *html.Node) bool { return n.Data == "use" })
	if attribute(badge, "class") != "state s-"+slug || drawn == nil || attribute(drawn, "href") != "#i-"+slug {
		t.Errorf("the state %q is drawn and coloured as another one", word)
	}
	return word
}
