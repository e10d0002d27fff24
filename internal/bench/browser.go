package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A browser looks at one page and keeps it live, as the pages' script does: one stream tells it when something has changed, and it
// fetches the page again; what it is told while it does so it makes good half a second later.
type browser struct {
	client http.Client
	base   string
	page   string
	counts *atomic.Bool // all watch: from now on it counts how long it waits
	waited times
}

const (
	afterwards = 500 * time.Millisecond
	slowest    = 15 * time.Second // that an answer may be
)

// watching is what the page says of its stream.
var watching = regexp.MustCompile(`data-of="([^"]*)" data-mark="([^"]*)"`)

// playWatchers lets a browser watch each of the pages of a publisher, and says how long they waited for each answer once all
// watched. It ends when ctx has ended and every one was told of something.
func playWatchers(ctx context.Context, base string, pages []string, out io.Writer) error {
	open, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	var began, told, ended sync.WaitGroup
	var all atomic.Bool // watch
	browsers, errs := make([]browser, len(pages)), make([]error, len(pages))
	for i, page := range pages {
		b := &browsers[i]
		b.client.Transport, b.base, b.page, b.counts = &http.Transport{}, base, page, &all
		began.Add(1)
		told.Add(1)
		ended.Go(func() {
			begun, heard := sync.OnceFunc(began.Done), sync.OnceFunc(told.Done)
			defer heard()
			defer begun()
			if err := b.watch(ctx, open, begun, heard); err != nil && open.Err() == nil {
				errs[i] = fmt.Errorf("%s: %w", page, err)
			}
		})
	}
	began.Wait()
	all.Store(true)
	if _, err := io.WriteString(out, ready); err != nil {
		return err
	}
	<-ctx.Done()
	told.Wait()
	leave()
	ended.Wait()
	var waited times
	for _, b := range browsers {
		waited = append(waited, b.waited...)
	}
	return errors.Join(errors.Join(errs...), json.NewEncoder(out).Encode(waited))
}

// watch looks at the page and renews it until stop has ended, and at least once. The stream ends with ctx.
func (b *browser) watch(stop, ctx context.Context, begun, told func()) error {
	body, err := b.fetch()
	if err != nil {
		return err
	}
	of := watching.FindSubmatch(body)
	if of == nil {
		return errors.New("the page does not say what it is about")
	}
	stream, err := b.get(ctx, "/live?of="+url.QueryEscape(string(of[1]))+"&since="+url.QueryEscape(string(of[2])))
	if err != nil {
		return err
	}
	defer stream.Body.Close()
	changed := make(chan struct{}, 1) // what comes twice while a page is fetched says nothing new
	go func() {
		defer close(changed)
		for lines := bufio.NewScanner(stream.Body); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "event:") {
				select {
				case changed <- struct{}{}:
				default:
				}
			}
		}
	}()
	begun()
	for range changed {
		asked, counts := time.Now(), b.counts.Load()
		if _, err := b.fetch(); err != nil {
			return err
		}
		if counts {
			b.waited = append(b.waited, time.Since(asked))
			told()
		}
		if counts && stop.Err() != nil {
			return nil
		}
		if len(changed) > 0 {
			time.Sleep(afterwards)
		}
	}
	return errors.New("the stream ended")
}

// fetch reads the page, whether anybody still waits for it or not.
func (b *browser) fetch() ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), slowest)
	defer cancel()
	answer, err := b.get(ctx, b.page)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	return io.ReadAll(answer.Body)
}

func (b *browser) get(ctx context.Context, address string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, b.base+address, nil)
	if err != nil {
		return nil, err
	}
	answer, err := b.client.Do(r)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		answer.Body.Close()
		return nil, fmt.Errorf("answered %s", answer.Status)
	}
	return answer, nil
}
