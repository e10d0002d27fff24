package dashboard_test

import (
	"html"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/dashboard"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

var (
	aside = regexp.MustCompile(`(?s)<(svg|title|script|datalist)\b.*?</(svg|title|script|datalist)>`)
	tags  = regexp.MustCompile(`<[^>]*>`)
	white = regexp.MustCompile(`\s+`)
)

// words are what a person reads of some markup.
func words(markup string) string {
	return strings.TrimSpace(white.ReplaceAllString(html.UnescapeString(tags.ReplaceAllString(aside.ReplaceAllString(markup, " "), " ")), " "))
}

// markup is a page as it is sent.
func markup(t testing.TB, w *world, path string) string {
	t.Helper()
	answer := httptest.NewRecorder()
	dashboard.New(dashboard.Options{Backend: w, Version: "v1"}).ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return answer.Body.String()
}

// read is a page as a person reads it: its headline, its banners, and all of it.
func read(t testing.TB, w *world, path string) (headline, banners, all string) {
	t.Helper()
	_, main, _ := strings.Cut(markup(t, w, path), "<main")
	for _, banner := range regexp.MustCompile(`(?s)<p class="banner bad">.*?</p>`).FindAllString(main, -1) {
		banners += words(banner) + " "
	}
	return words(regexp.MustCompile(`(?s)<h1>.*?</h1>`).FindString(main)), banners, words("<main" + main)
}

// TestSilenceIsNeverGreen: whatever befalls the only agent of an environment, within three beats the overview says in its headline that
// the environment is not in step, and which state it has and why, and the environment's page says the same.
func TestSilenceIsNeverGreen(t *testing.T) {
	beats := func(n int, w *world) {
		for range n {
			w.pass(fleet.BeatInterval)
			w.beatAll()
		}
	}
	for name, c := range map[string]struct {
		befalls func(w *world)
		want    []string // on both pages
	}{
		"it dies, or loses the bus": {
			func(w *world) { w.pass(fleet.SilentAfter + time.Second + 3*time.Second) },
			[]string{"silent", "unheard for 31s", "0 of 1", "agent status"},
		},
		"it was never started": {
			func(w *world) {
				delete(w.reports.Beats, fleet.AgentID{Environment: "prod", Agent: "a1"})
				w.pass(fleet.SilentAfter * 2)
			},
			[]string{"silent", "0 of 1"},
		},
		"it hangs, and goes on beating": {
			func(w *world) {
				w.release("because", "variable/x", `2`, "prod")
				beats(3, w)
			},
			[]string{"behind", "at revision 2 of 3", "1 rev"},
		},
		"it does not hear the publisher": {
			func(w *world) {
				w.beat("prod", "a1", fleet.Stale, func(b *events.Beat) { b.Reason, b.Message = "pulse-missing", "no pulse of the publisher for 46s" })
			},
			[]string{"stale", "no pulse of the publisher", "publisher doctor"},
		},
		"it is replaced by one with an old checkpoint": {
			func(w *world) {
				w.pass(fleet.BeatInterval)
				at := w.state.Environments["prod"].Releases[0]
				w.beat("prod", "a1", fleet.InStep, func(b *events.Beat) {
					b.Boot, b.Revision, b.Chain, b.State, b.Observed = "another", 1, at.Chain, at.State, at.State
				})
			},
			[]string{"behind", "at revision 1 of 2", "1 / 2"},
		},
		"a second process runs with its enrolment": {
			func(w *world) {
				id := fleet.AgentID{Environment: "prod", Agent: "a1"}
				b := w.reports.Beats[id]
				b.Doubled = b.Stamp
				w.reports.Beats[id] = b
			},
			[]string{"differing", "two processes run with its enrolment"},
		},
		"it is on another chain": {
			func(w *world) {
				w.pass(fleet.BeatInterval)
				w.beat("prod", "a1", fleet.InStep, func(b *events.Beat) { b.Chain = events.Sum([]byte("forked")) })
			},
			[]string{"differing", "differs"},
		},
		"somebody edits its instance": {
			func(w *world) {
				w.pass(fleet.BeatInterval)
				w.beat("prod", "a1", fleet.InStep, func(b *events.Beat) { b.Observed = events.Sum([]byte("edited")) })
			},
			[]string{"differing", "the instance holds other values", "differs", "agent plan"},
		},
		"it fails": {
			func(w *world) {
				w.release("because", "variable/x", `2`, "prod")
				w.say("prod", "a1", events.WordFailed, fleet.Failing, events.ReasonConnector, "the instance answered 503")
			},
			[]string{"failing", "the instance answered 503", "publisher rollback"},
		},
		"its undo fails": {
			func(w *world) {
				w.release("because", "variable/x", `2`, "prod")
				w.say("prod", "a1", events.WordTorn, fleet.Torn, events.ReasonConnector, "flags.json could not be put back")
			},
			[]string{"torn", "flags.json could not be put back", "by hand"},
		},
		"its instance does not answer": {
			func(w *world) {
				w.release("because", "variable/x", `2`, "prod")
				w.pass(40 * time.Second)
				since := w.clock.Add(-35 * time.Second)
				w.beat("prod", "a1", fleet.Behind, func(b *events.Beat) {
					b.Reason, b.Message, b.Since = "timeout", "at revision 2 of 3, and the connector does not answer", since
				})
			},
			[]string{"behind", "timeout", "the connector does not answer", "for 35s", "agent status"},
		},
		"the publisher does not reach the bus": {
			func(w *world) {
				w.reports.Deaf = w.clock
				w.standing = fleet.LedgerView{Reason: events.ReasonBusDown, Message: "the bus is not reachable", Since: w.clock, Durability: "proven"}
			},
			[]string{"silent", "bus-unreachable", "this publisher does not reach the bus", "publisher doctor", "The bus is not reachable since"},
		},
		"it says a word that this publisher does not know": {
			func(w *world) { w.beat("prod", "a1", "splendid") },
			[]string{"failing", "splendid"},
		},
		"its steward holds it": {
			func(w *world) { w.beat("prod", "a1", fleet.Held, func(b *events.Beat) { b.Message = "load test" }) },
			[]string{"held", "load test", "agent resume"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.add("prod", "prod", "eu", "a1")
			w.release("because", "variable/x", `1`, "prod")
			w.apply(50*time.Millisecond, "prod")
			if headline, _, _ := read(t, w, "/"); headline != "The environment is in step" {
				t.Fatalf("before: %q", headline)
			}
			c.befalls(w)
			headline, _, overview := read(t, w, "/")
			if headline != "The environment is not in step" {
				t.Errorf("the overview is headed %q", headline)
			}
			_, _, page := read(t, w, "/environments/prod")
			for _, want := range c.want {
				if !strings.Contains(overview, want) {
					t.Errorf("the overview does not say %q: %s", want, overview)
				}
				if !strings.Contains(page, want) {
					t.Errorf("the environment's page does not say %q: %s", want, page)
				}
			}
		})
	}
}

// TestDriftIsShownWithWhoSetWhatShouldBeThere: which resource, where in it, and the change and people whose value is gone.
func TestDriftIsShownWithWhoSetWhatShouldBeThere(t *testing.T) {
	w := newWorld(t)
	w.add("prod", "prod", "eu", "a1")
	change := w.release("Lower the limit", "document/limits", `{"order":5000}`, "prod")
	w.apply(50*time.Millisecond, "prod")
	w.pass(fleet.BeatInterval)
	w.beat("prod", "a1", fleet.InStep, func(b *events.Beat) {
		b.Observed, b.Drift = events.Sum([]byte("edited")), 1
		b.Differing = []events.DifferingResource{{Resource: "document/limits", Fields: []string{"/order"}}}
	})
	_, _, page := read(t, w, "/environments/prod")
	if want := `document/limits /order a1 {"order":5000} ` + change + ` anna approved by ben`; !strings.Contains(page, want) {
		t.Errorf("the page does not say %q: %s", want, page)
	}
}

// TestAnEnvironmentWithoutAgentIsNotInStep and says how to get one.
func TestAnEnvironmentWithoutAgentIsNotInStep(t *testing.T) {
	w := newWorld(t)
	w.add("prod", "prod", "eu")
	headline, _, all := read(t, w, "/")
	if headline != "The environment is not in step" || !strings.Contains(all, "publisher env enrol prod") {
		t.Errorf("%s: %s", headline, all)
	}
}

// TestASkewedClockIsShownAndHidesNothing: lag is the same, and overview and environment's page say by how much the clock is off.
func TestASkewedClockIsShownAndHidesNothing(t *testing.T) {
	for skew, want := range map[time.Duration]string{time.Hour: "+1h", -time.Hour: "−1h", 30 * time.Second: "+30s"} {
		w := newWorld(t)
		w.add("prod", "prod", "eu", "a1")
		w.release("because", "variable/x", `1`, "prod")
		w.apply(50*time.Millisecond, "prod")
		w.beat("prod", "a1", fleet.InStep, func(b *events.Beat) { b.Clock = b.Clock.Add(skew) })
		if _, _, page := read(t, w, "/environments/prod"); !strings.Contains(page, want) || !strings.Contains(page, "Last release took 50ms") {
			t.Errorf("skew %v: %s", skew, page)
		}
		if headline, _, overview := read(t, w, "/"); headline != "The environment is in step" || !strings.Contains(overview, "clock off: of a1 by "+want) {
			t.Errorf("skew %v: %s: %s", skew, headline, overview)
		}
		w.release("because", "variable/x", `2`, "prod")
		w.pass(90 * time.Second)
		w.beat("prod", "a1", fleet.Behind, func(b *events.Beat) { b.Clock = b.Clock.Add(skew) })
		if headline, _, overview := read(t, w, "/"); headline != "The environment is not in step" || !strings.Contains(overview, "1 rev, 1m30s") {
			t.Errorf("skew %v: %s: %s", skew, headline, overview)
		}
	}
}

// TestDoubtfulDataIsSaidOnEveryPage: what makes all that is shown doubtful stands above it, on every page.
func TestDoubtfulDataIsSaidOnEveryPage(t *testing.T) {
	for want, standing := range map[string]fleet.LedgerView{
		"The bus is not reachable since 09:00:05Z": {Reason: events.ReasonBusDown, Message: "the bus is not reachable", Since: epoch.Add(5 * time.Second), Durability: "proven"},
		"The ledger is not verified":               {Reason: events.ReasonLedgerForked, Message: "entry 7 is another one", Since: epoch, Durability: "proven"},
		"Durability is accepted without proof":     {Writable: true, Durability: "accepted without proof"},
	} {
		w := small(t)
		w.standing = standing
		for _, path := range []string{"/", "/environments/prod", "/propagation", "/changes", "/changes/c1", "/approvals", "/flags", "/delivery", "/audit", "/nowhere"} {
			if _, banners, _ := read(t, w, path); !strings.Contains(banners, want) {
				t.Errorf("%s: the banners say %q, want %q", path, banners, want)
			}
		}
	}
}
