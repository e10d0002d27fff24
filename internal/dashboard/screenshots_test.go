//go:build browser

package dashboard_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// shownPages are those of everyState.
var shownPages = []string{"/", "/environments/prod-eu", "/environments/prod-ap", "/environments/old-prod", "/propagation?window=30d", "/approvals", "/flags", "/delivery", "/changes", "/changes/c2", "/changes/c19", "/changes/c20", "/changes/c21", "/nowhere"}

// TestScreenshots writes pages as pictures into the directory that LOCKSTEP_SCREENSHOTS names, for people to look at; without one it
// sees to it that they can be taken.
func TestScreenshots(t *testing.T) {
	dir := os.Getenv("LOCKSTEP_SCREENSHOTS")
	shoot := func(p *tab, name string) {
		ctx, cancel := context.WithTimeout(p.ctx, limit)
		defer cancel()
		picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
		if err != nil {
			t.Fatal(err)
		}
		if dir != "" {
			if err := os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	pages := shownPages
	if dir == "" {
		pages = pages[:1]
	}
	p := open(t, everyState(t))
	for _, l := range looks {
		p.as(l)
		for _, page := range pages {
			p.visit(page)
			shoot(p, l.name+strings.NewReplacer("/", "-", "?", "-").Replace(strings.TrimSuffix(page, "/")))
		}
	}
	if dir == "" {
		return
	}
	many := newWorld(t)
	for _, n := range names(500) {
		many.add(n[0], n[1], n[2], "a1")
	}
	many.pass(time.Minute)
	many.beatAll("prod-eu-003", "test-us-011")
	p = open(t, many)
	for _, l := range looks {
		p.as(l)
		p.visit("/")
		shoot(p, l.name+"-500")
	}
}
