package dashboard_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-dev/lockstep/internal/dashboard"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
)

// quick is how long a snapshot lasts in tests that wait for the next one.
const quick = 5 * time.Millisecond

func small(t testing.TB) *world {
	w := newWorld(t)
	w.add("prod", "prod", "eu", "a1")
	w.add("test", "test", "", "a1")
	w.release("because", "variable/x", `1`, "*")
	w.apply(50*time.Millisecond, "prod", "test")
	return w
}

func servePaused(t testing.TB, b dashboard.Backend, pause time.Duration) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(dashboard.NewPaused(dashboard.Options{Backend: b, Version: "v1", Done: t.Context().Done()}, pause))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server
}

// A stream is one who watches.
type stream struct {
	t      testing.TB
	answer *http.Response
	lines  *bufio.Scanner
	leave  context.CancelFunc
}

func watch(t testing.TB, url, query, lastEventID string) *stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // longer than it takes a busy machine to let in as many as may watch
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/live?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	if lastEventID != "" {
		r.Header.Set("Last-Event-ID", lastEventID)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	s := &stream{t, answer, bufio.NewScanner(answer.Body), func() { cancel(); answer.Body.Close() }}
	t.Cleanup(s.leave)
	return s
}

// next is the id and name of the next event.
func (s *stream) next() (id, event string) {
	s.t.Helper()
	for s.lines.Scan() {
		name, value, _ := strings.Cut(s.lines.Text(), ": ")
		switch name {
		case "id":
			id = value
		case "event":
			event = value
		case "":
			if event != "" {
				return id, event
			}
		}
	}
	s.t.Fatalf("the stream ended: %v", s.lines.Err())
	return "", ""
}

func markOf(t testing.TB, url string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return markIn(t, body)
}

func markIn(t testing.TB, page []byte) string {
	t.Helper()
	found := regexp.MustCompile(`data-mark="([^"]+)"`).FindSubmatch(page)
	if found == nil {
		t.Fatalf("the page has no mark: %.200s", page)
	}
	return string(found[1])
}

func TestAStreamTellsOfWhatChangedSinceThePageWasMade(t *testing.T) {
	w := small(t)
	server := servePaused(t, w, quick)
	before := markOf(t, server.URL+"/")
	w.release("because", "variable/x", `2`, "prod") // after the page, before the stream
	id, event := watch(t, server.URL, "since="+before, "").next()
	if event != "changed" || id == before {
		t.Errorf("event %s with id %s, the page had %s", event, id, before)
	}
}

// A tape is what a stream said, to somebody who takes everything at once.
type tape struct{ *httptest.ResponseRecorder }

func (tape) SetWriteDeadline(time.Time) error { return nil }

// changes is how often it said that something changed, and the last id.
func (t tape) changes() (n int, last string) {
	for line := range strings.Lines(t.Body.String()) {
		if line == "event: changed\n" {
			n++
		}
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			last = strings.TrimSpace(id)
		}
	}
	return n, last
}

// TestWhatChangesWithinOnePauseIsToldOnce to each who watches, as what is there in the end.
func TestWhatChangesWithinOnePauseIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pause = 500 * time.Millisecond
		w := small(t)
		serve := func() http.Handler {
			return dashboard.NewPaused(dashboard.Options{Backend: w, Version: "v1"}, pause)
		}
		ctx, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		defer wg.Wait()
		defer leave()
		handler, tapes := serve(), make([]tape, 3)
		for i := range tapes {
			tapes[i] = tape{httptest.NewRecorder()}
			wg.Go(func() { handler.ServeHTTP(tapes[i], httptest.NewRequestWithContext(ctx, http.MethodGet, "/live", nil)) })
			<-time.After(pause / 10) // they look at different moments
		}
		for round := range 3 {
			for n := range 10 { // from three to eight tenths of a pause
				w.propose("anna", "because", "variable/x", fmt.Sprint(100+10*round+n), "prod")
				<-time.After(pause / 20)
			}
			<-time.After(2*pause - pause/2)
			synctest.Wait()
			page := httptest.NewRecorder()
			serve().ServeHTTP(page, httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil))
			now := markIn(t, page.Body.Bytes())
			for i := range tapes {
				if n, last := tapes[i].changes(); n != 1+round+1 || last != now {
					t.Errorf("watcher %d was told %d times of what was there at first and of %d times ten changes; last of %s, want %s", i, n, round+1, last, now)
				}
			}
		}
	})
}

func TestAStreamThatIsResumedTellsOnlyOfWhatWasMissed(t *testing.T) {
	w := small(t)
	server := servePaused(t, w, quick)
	s := watch(t, server.URL, "", "")
	last, _ := s.next()
	s.leave()
	s = watch(t, server.URL, "since=older", last) // nothing has happened: the header counts
	w.release("because", "variable/x", `2`, "prod")
	missed, event := s.next()
	if event != "changed" || missed == last {
		t.Errorf("event %s, id %s after %s", event, missed, last)
	}
	s.leave()
	w.release("because", "variable/x", `3`, "prod")
	if id, event := watch(t, server.URL, "", missed).next(); event != "changed" || id == missed {
		t.Errorf("what happened meanwhile is not told: %s, id %s", event, id)
	}
}

// TestAStreamOfOneEnvironmentIsSilentAboutOthers: what the id is does not change with them either.
func TestAStreamOfOneEnvironmentIsSilentAboutOthers(t *testing.T) {
	w := small(t)
	server := servePaused(t, w, quick)
	prod, test, all := markOf(t, server.URL+"/environments/prod"), markOf(t, server.URL+"/environments/test"), markOf(t, server.URL+"/")
	everything := watch(t, server.URL, "since="+all, "")
	w.approve("ben", w.propose("anna", "because", "variable/x", `2`, "test")) // in no time: nobody falls silent
	everything.next()
	if now := markOf(t, server.URL+"/environments/prod"); now != prod {
		t.Error("a release to test changed the mark of prod")
	}
	if id, _ := watch(t, server.URL, "of=test&since="+test, "").next(); id == test {
		t.Error("a release to test did not change the mark of test")
	}
}

func TestTimeAloneChangesNoMarkBeforeAnAgentIsSilent(t *testing.T) {
	w := small(t)
	mark := func() string { return markOf(t, servePaused(t, w, time.Hour).URL+"/") }
	before := mark()
	w.pass(20 * time.Second)
	if mark() != before {
		t.Error("the mark changed with the time")
	}
	w.pass(fleet.SilentAfter)
	if mark() == before {
		t.Error("the mark did not change when the agents fell silent")
	}
}

// counted counts what is asked of a backend.
type counted struct {
	*world
	fleets, reads atomic.Int32
}

func (c *counted) Fleet() fleet.View {
	c.fleets.Add(1)
	return c.world.Fleet()
}

func (c *counted) Read(fn func(*ledger.State, fleet.Reports, time.Time)) {
	c.reads.Add(1)
	c.world.Read(fn)
}

// TestManyWhoWatchCostAsMuchAsOne: a snapshot is taken once, and a page of it rendered once, for all who ask while it lasts.
func TestManyWhoWatchCostAsMuchAsOne(t *testing.T) {
	c := &counted{world: small(t)}
	server := servePaused(t, c, time.Hour)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { markOf(t, server.URL+"/") })
	}
	wg.Wait()
	if c.fleets.Load() != 1 || c.reads.Load() != 1 {
		t.Errorf("50 who asked for the overview took %d snapshots and rendered %d pages", c.fleets.Load(), c.reads.Load())
	}
}

// TestNobodyIsShownAnothersPage: people with and without a session to end look at the same address, while it is rendered ahead for both.
func TestNobodyIsShownAnothersPage(t *testing.T) {
	w := small(t)
	handler := dashboard.NewPaused(dashboard.Options{Backend: w, Done: t.Context().Done(), SignOut: func(r *http.Request) string { return r.Header.Get("Sign-Out") }}, quick)
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	s := watch(t, server.URL, "", "")
	for i := range 20 {
		for _, signOut := range []string{"", "/logout", "/elsewhere"} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
			r.Header.Set("Sign-Out", signOut)
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, r)
			for _, other := range []string{"/logout", "/elsewhere"} {
				if shown := strings.Contains(answer.Body.String(), `href="`+other+`"`); shown != (other == signOut) {
					t.Fatalf("round %d: who ends the session at %q is shown %s: %t", i, signOut, other, shown)
				}
			}
		}
		w.release("because", "variable/x", fmt.Sprint(i+2), "prod")
		s.next()
	}
}

// hanging hangs while it is told to.
type hanging struct {
	*world
	hangs atomic.Bool
	goOn  chan struct{}
}

func (h *hanging) Fleet() fleet.View {
	if h.hangs.Load() {
		<-h.goOn
	}
	return h.world.Fleet()
}

// TestAPublisherThatHangsDoesNotLookAlive: what is at hand is shown for moments while newer is on its way, and not for longer.
func TestAPublisherThatHangsDoesNotLookAlive(t *testing.T) {
	h := &hanging{world: small(t), goOn: make(chan struct{})}
	server := servePaused(t, h, quick)
	markOf(t, server.URL+"/")
	h.hangs.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answered := make(chan error)
	go func() { // ask until nothing is answered
		for {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/", nil)
			if err == nil {
				var answer *http.Response
				if answer, err = http.DefaultClient.Do(r); err == nil {
					_, err = io.Copy(io.Discard, answer.Body)
					answer.Body.Close()
				}
			}
			select {
			case answered <- err:
			case <-ctx.Done():
				return
			}
		}
	}()
	for deadline := time.After(2 * time.Minute); ; {
		select {
		case err := <-answered:
			if err != nil {
				t.Fatal(err)
			}
			continue
		case <-time.After(3 * time.Second): // nothing is answered any more
		case <-deadline:
			t.Error("a publisher that hangs goes on showing what was")
		}
		break
	}
	cancel()
	close(h.goOn)
}

func TestNoMoreThanSoManyWatchAndTheOthersAreTold(t *testing.T) {
	server := servePaused(t, small(t), time.Hour)
	var streams []*stream
	for range dashboard.MaxStreams {
		s := watch(t, server.URL, "", "")
		s.next()
		streams = append(streams, s)
	}
	refused := watch(t, server.URL, "", "")
	if refused.answer.StatusCode != http.StatusServiceUnavailable || refused.answer.Header.Get("Retry-After") == "" {
		t.Errorf("status %d, header %v", refused.answer.StatusCode, refused.answer.Header)
	}
	if mark := markOf(t, server.URL+"/"); mark == "" {
		t.Error("who cannot watch cannot look either")
	}
	streams[0].leave()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		if s := watch(t, server.URL, "", ""); s.answer.StatusCode == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("one left, and nobody else is let in")
		}
	}
}

func TestStreamsEndWithThePublisher(t *testing.T) {
	done := make(chan struct{})
	server := httptest.NewServer(dashboard.NewPaused(dashboard.Options{Backend: small(t), Done: done}, quick))
	defer server.Close()
	s := watch(t, server.URL, "", "")
	s.next()
	close(done)
	for s.lines.Scan() {
	}
	if err := s.lines.Err(); err != nil {
		t.Errorf("it was cut off: %v", err)
	}
}
