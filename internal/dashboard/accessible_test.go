//go:build browser

package dashboard_test

import (
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// looks are how people look at pages; reflowed is a screen of 1,280 pixels at 400 %, and large is one where text has twice the usual size.
var (
	light    = look{name: "light", width: 1400, height: 900}
	dark     = look{name: "dark", width: 1400, height: 900, dark: true}
	narrow   = look{name: "narrow", width: 400, height: 800}
	reflowed = look{name: "reflowed", width: 320, height: 640}
	large    = look{name: "large", width: 1400, height: 900, text: 32}

	looks = []look{light, dark, narrow}
)

// rules are all of axe-core's that are of WCAG 2.2 A and AA; layout those of them that depend on the size of what is shown.
const (
	rules  = `{type: "tag", values: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}`
	layout = `{type: "rule", values: ["target-size", "scrollable-region-focusable", "color-contrast"]}`
)

// A site is a fleet, and the pages of it that are looked at.
type site struct {
	world *world
	pages []string
}

// sites have between them whatever pages are made of: every state and alarm, nothing at all, so many environments that they are gathered,
// a region that is lost, flags of all kinds, doubtful data, and values that are longer than anybody reads.
func sites(t testing.TB) map[string]site {
	doubtful := everyAlarm(t)
	doubtful.standing = doubt(doubtful)
	return map[string]site{
		"every state":      {everyAlarm(t), shownPages},
		"nothing":          {newWorld(t), []string{"/", "/propagation", "/approvals", "/alarms", "/flags", "/delivery", "/audit", "/changes"}},
		"500 environments": {manyEnvironments(t, 500), []string{"/", "/?filter=stage%3Dprod+region%3Deu", "/propagation", "/flags", "/changes/c4"}},
		"a lost region":    {lostRegion(t, 500), []string{"/", "/propagation"}},
		"flags":            {manyFlags(t), []string{"/flags", "/delivery", "/environments/prod-ap"}},
		"doubtful":         {doubtful, []string{"/", "/environments/prod-ap"}},
		"hostile":          {hostileWorld(t), []string{"/", "/environments/prod", "/propagation?window=30d", "/approvals", "/alarms", "/flags", "/delivery", "/audit", "/changes", "/changes/c3"}},
	}
}

// TestBrowserFindsNoBarrier: no rule of WCAG 2.2 A and AA that axe-core can check is broken on any page, in light and dark, wide and narrow,
// at 400 % and with text of twice the size, also while updates are paused; no page is wider than its screen, and none moves.
func TestBrowserFindsNoBarrier(t *testing.T) {
	for name, of := range sites(t) {
		p := open(t, of.world)
		for _, l := range []look{light, dark, narrow, reflowed, large} {
			p.as(l)
			for _, page := range of.pages {
				p.visit(page)
				if name == "doubtful" {
					tell[bool](p, `document.getElementById("pause").click(); true`)
					p.until("it says that it is paused", `!document.getElementById("cut").hidden`)
				}
				asked := rules
				if l == reflowed || l == large {
					asked = layout
				}
				for _, b := range p.barriers(asked) {
					for _, n := range b.Nodes {
						t.Errorf("%s, %s, %s: %s (%s): %.300s: %s", name, page, l.name, b.Help, b.ID, n.HTML, n.Summary)
					}
				}
				if over := tell[int](p, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); over > 0 {
					t.Errorf("%s, %s, %s: the page is %d pixels wider than the screen", name, page, l.name, over)
				}
				if tell[bool](p, `document.getAnimations().some(a => a.animationName !== "old")`) {
					t.Errorf("%s, %s, %s: something moves", name, page, l.name)
				}
			}
		}
	}
}

// TestBrowserShowsWhatHasTheFocus: wherever the focus goes, up and down a page, it is not behind the banner that stays in sight.
func TestBrowserShowsWhatHasTheFocus(t *testing.T) {
	p := open(t, everyState(t))
	for _, l := range []look{light, narrow} {
		p.as(l)
		p.visit("/")
		tell[bool](p, `document.getElementById("pause").click(); true`)
		p.until("it says that it is paused", `!document.getElementById("cut").hidden`)
		hidden := tell[[]string](p, `(() => {
			const stops = [...document.querySelectorAll("main a, main input, main button, main summary, footer a")], hidden = [];
			for (const e of [...stops, ...stops.toReversed()]) {
				e.focus();
				const r = e.getBoundingClientRect(), banner = document.getElementById("cut").getBoundingClientRect();
				if (document.activeElement !== e || r.top < banner.bottom - 1 || r.bottom > innerHeight + 1) hidden.push(e.outerHTML.slice(0, 100));
			}
			return hidden;
		})()`)
		for _, what := range hidden {
			t.Errorf("%s: %s has the focus, and is not seen", l.name, what)
		}
	}
}

// TestBrowserSaysOnceWhatChanged: what is read aloud is the headline, where it is another one, and nothing while updates are paused.
func TestBrowserSaysOnceWhatChanged(t *testing.T) {
	w := small(t)
	p := open(t, w)
	p.visit("/")
	p.until("it is live", `!document.getElementById("live").hidden`)
	p.run(chromedp.Focus(chromedp.CSS("#pause")), chromedp.KeyEvent(" "))
	p.until("the keyboard pauses it", `document.getElementById("pause").getAttribute("aria-pressed") === "true"`)
	w.pass(time.Hour)
	p.run(chromedp.KeyEvent(" "))
	p.until("it goes on, and says what changed", `document.getElementById("said").textContent === "None of 2 environments is in step" && document.title.startsWith("None of 2 environments")`)
	if tell[bool](p, `document.querySelectorAll("[aria-live], [role=status], [role=alert]").length > 3`) {
		t.Error("too much of the page is read aloud when it changes")
	}
}
