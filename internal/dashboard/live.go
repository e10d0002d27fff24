package dashboard

import (
	"fmt"
	"net/http"
	"time"
)

const (
	// maxStreams is how many may watch at once; the script of one more asks again from time to time.
	maxStreams = 256
	// beat is how often a stream says something where nothing changes: ages go on, and a stream that says nothing is cut.
	beat = 10 * time.Second
	// patience is how long one who watches may take nothing.
	patience = 20 * time.Second
)

// live tells one who watches when what its page shows has changed: event "changed", whose id is the mark of what is there now. It
// carries nothing: the script fetches the page. Changes are gathered for as long as a snapshot lasts. Who comes back with the mark it
// had last, in Last-Event-ID or in since, learns at once whether it has missed anything.
func (d *dashboard) live(w http.ResponseWriter, r *http.Request) {
	if !d.enter() {
		w.Header().Set("Retry-After", "15")
		http.Error(w, "too many watch this publisher: reload the page from time to time", http.StatusServiceUnavailable)
		return
	}
	defer d.leave()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	query := r.URL.Query()
	last, of := query.Get("since"), query.Get("of")
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		last = id
	}
	out := http.NewResponseController(w)
	say := func(format string, args ...any) bool {
		if err := out.SetWriteDeadline(time.Now().Add(patience)); err != nil {
			return false
		}
		_, err := fmt.Fprintf(w, format, args...)
		return err == nil && out.Flush() == nil
	}
	if !say("retry: 2000\n\n") {
		return
	}
	tick := time.NewTicker(d.pause)
	defer tick.Stop()
	said := time.Now()
	for {
		now := d.now(true)
		switch mark := now.markOf(of); {
		case mark != last:
			if !say("id: %s\nevent: changed\ndata: %s\n\n", mark, now.view.AsOf.UTC().Format(time.RFC3339)) {
				return
			}
			last, said = mark, time.Now()
		case time.Since(said) >= beat:
			if !say("event: unchanged\ndata: %s\n\n", now.view.AsOf.UTC().Format(time.RFC3339)) {
				return
			}
			said = time.Now()
		}
		select {
		case <-now.next: // its pages are there: nobody waits for them
		case <-tick.C:
		case <-d.Done:
			return
		case <-r.Context().Done():
			return
		}
	}
}

func (d *dashboard) enter() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.streams >= maxStreams {
		return false
	}
	d.streams++
	return true
}

func (d *dashboard) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.streams--
}
