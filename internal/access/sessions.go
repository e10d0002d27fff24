package access

import (
	"crypto/rand"
	"crypto/sha256"
	"maps"
	"sync"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

const (
	// LinkLife is how long a link waits for being followed.
	LinkLife = time.Minute
	// SessionLife is how long a session lives, used or not.
	SessionLife = 12 * time.Hour
	// maxOfOne bounds a person's links and a person's sessions: one more ends the oldest.
	maxOfOne = 10
)

// Sessions are those of browsers, and the links that open them, of one run of a publisher. The zero value is ready; methods are safe
// for concurrent use.
type Sessions struct {
	mu       sync.Mutex
	links    tickets
	sessions tickets
}

// tickets are found by digests of what their holders show, so that how long a look takes tells nothing of them.
type tickets map[[sha256.Size]byte]ticket

type ticket struct {
	Holder
	until time.Time
}

// issue makes a ticket, and returns what its holder shows: 130 bits that nobody guesses.
func (t *tickets) issue(h Holder, now time.Time, life time.Duration) string {
	maps.DeleteFunc(*t, func(_ [sha256.Size]byte, old ticket) bool { return !now.Before(old.until) })
	var oldest [sha256.Size]byte
	of := 0
	for id, old := range *t {
		if old.Name != h.Name {
			continue
		}
		if of++; of == 1 || old.until.Before((*t)[oldest].until) {
			oldest = id
		}
	}
	if of >= maxOfOne {
		delete(*t, oldest)
	}
	if *t == nil {
		*t = tickets{}
	}
	secret := rand.Text()
	(*t)[sha256.Sum256([]byte(secret))] = ticket{h, now.Add(life)}
	return secret
}

// Link makes a link for a person, and returns its secret.
func (s *Sessions) Link(h Holder, now time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.links.issue(h, now, LinkLife)
}

// Follow uses a link up, and opens a session for whom it was made, if they may still read.
func (s *Sessions) Follow(link string, trust *events.Trust, now time.Time) (session string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := sha256.Sum256([]byte(link))
	t, found := s.links[id]
	delete(s.links, id)
	if !found || !now.Before(t.until) {
		return "", events.Errorf(ReasonLink, "the link was used, or is older than %s, or the publisher has been started since", LinkLife)
	}
	if err := t.May(trust, now); err != nil {
		return "", err
	}
	return s.sessions.issue(t.Holder, now, SessionLife), nil
}

// Check says whose a session is. One whose person may not read any more is over.
func (s *Sessions) Check(session string, trust *events.Trust, now time.Time) (Holder, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := sha256.Sum256([]byte(session))
	t, found := s.sessions[id]
	if !found || !now.Before(t.until) {
		return Holder{}, events.Errorf(ReasonSession, "the session is over, or the publisher has been started since")
	}
	if err := t.May(trust, now); err != nil {
		delete(s.sessions, id)
		return Holder{}, err
	}
	return t.Holder, nil
}

// End ends a session.
func (s *Sessions) End(session string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, sha256.Sum256([]byte(session)))
}
