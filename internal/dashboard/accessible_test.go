//go:build browser

package dashboard_test

import (
	"slices"
	"testing"
)

var looks = []look{{"light", 1400, 900, false}, {"dark", 1400, 900, true}, {"narrow", 400, 800, false}}

// diverse are pages that have between them whatever pages are made of.
var diverse = []string{"/", "/environments/prod-ap", "/propagation?window=30d", "/approvals", "/alarms", "/flags", "/audit", "/changes/c21"}

// asked are the rules that each look is asked about: what does not depend on colour and width is asked once.
var asked = map[string]string{
	"light":  `{type: "tag", values: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}`,
	"dark":   `{type: "rule", values: ["color-contrast", "link-in-text-block"]}`,
	"narrow": `{type: "rule", values: ["target-size", "scrollable-region-focusable", "aria-required-children", "aria-required-parent"]}`,
}

// TestBrowserFindsNoBarrier: no rule of WCAG 2.2 A and AA that axe-core can check is broken, in light and dark, wide and narrow, and
// nothing is wider than a narrow screen.
func TestBrowserFindsNoBarrier(t *testing.T) {
	p := open(t, everyAlarm(t))
	for _, l := range looks {
		p.as(l)
		for _, page := range shownPages {
			p.visit(page)
			if l.name == "light" || slices.Contains(diverse, page) {
				for _, b := range p.barriers(asked[l.name]) {
					for _, n := range b.Nodes {
						t.Errorf("%s, %s: %s (%s): %s: %s", page, l.name, b.Help, b.ID, n.HTML, n.Summary)
					}
				}
			}
			if over := tell[int](p, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); over > 0 {
				t.Errorf("%s, %s: the page is %d pixels wider than the screen", page, l.name, over)
			}
		}
	}
}
