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

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// shownPages are those of everyState.
var shownPages = []string{"/", "/environments/prod-eu", "/environments/prod-ap", "/environments/tenant-corvo", "/environments/old-prod", "/propagation?window=30d", "/approvals", "/alarms", "/flags", "/delivery", "/audit", "/changes", "/changes/c2", "/changes/c19", "/changes/c21", "/changes/c22", "/nowhere"}

// doubt is a ledger that nobody should rely on.
func doubt(w *world) fleet.LedgerView {
	return fleet.LedgerView{Reason: events.ReasonBusDown, Message: "the bus is not reachable", Since: w.clock.Add(-time.Minute), Durability: "accepted without proof"}
}

// TestBrowserScreenshots writes pages as pictures into the directory that LOCKSTEP_SCREENSHOTS names, for people to look at; without one it
// sees to it that they can be taken.
func TestBrowserScreenshots(t *testing.T) {
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
	p := open(t, everyAlarm(t))
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
	doubtful := everyState(t)
	doubtful.standing = doubt(doubtful)
	p = open(t, doubtful)
	for _, l := range looks {
		p.as(l)
		p.visit("/")
		p.server.CloseClientConnections()
		p.until("the cut is said", `!document.getElementById("cut").hidden`)
		shoot(p, l.name+"-doubtful")
	}
	for name, of := range map[string]site{
		"500": {manyEnvironments(t, 500), []string{"/", "/propagation", "/flags"}}, "500-region-lost": {lostRegion(t, 500), []string{"/"}},
		"flags": {manyFlags(t), []string{"/flags"}}, "nothing": {newWorld(t), []string{"/", "/flags"}},
	} {
		p = open(t, of.world)
		for _, l := range looks {
			p.as(l)
			for _, page := range of.pages {
				p.visit(page)
				shoot(p, strings.TrimSuffix(l.name+"-"+name+strings.ReplaceAll(page, "/", "-"), "-"))
			}
		}
	}
}
