package access

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// The uses of tokens: verbs of statements that no command has.
const (
	Read = "read" // whatever the API and the pages show
	Open = "open" // a link that opens a browser's session
)

const (
	// Brief is how long a token lives that is made for one call.
	Brief = 5 * time.Minute
	// MaxRead is how long a token may live that is kept in a file.
	MaxRead = 90 * 24 * time.Hour
	// maxOpen is how long one may live that opens sessions, which live longer.
	maxOpen = 2 * Brief
	// skew is how far the clock of who signs may be ahead.
	skew = 10 * time.Minute
	// maxToken bounds a token, in bytes.
	maxToken = 4 << 10
)

// Reasons why somebody may not read, beside those of pkg/events. With those that this package uses of them the set is closed.
const (
	ReasonNoToken  events.Reason = "token-missing"
	ReasonOtherUse events.Reason = "token-for-something-else"
	ReasonExpired  events.Reason = "token-expired"
	ReasonNoRole   events.Reason = "role-missing"
	ReasonLink     events.Reason = "link-unknown"
	ReasonSession  events.Reason = "session-unknown"
)

// A Use is what a token is for: at another host it is worth nothing, whoever got hold of it there.
type Use struct {
	Verb string // Read or Open
	Host string // name or address of the publisher as who asks knows it, without a port
}

// content stands in the statement where the digest of a command's content stands.
func (u Use) content() events.Digest {
	return events.Sum([]byte("lockstep " + u.Verb + " v1\n" + strings.ToLower(strings.TrimSuffix(u.Host, "."))))
}

// A Holder is a person, and the key by which they came.
type Holder struct{ Name, Key string }

// Mint makes a token for a ledger, signed by a person's key.
func Mint(use Use, ledger, by string, signer *events.Signer, now time.Time, lifetime time.Duration) (string, error) {
	envelope, err := events.SignStatement(events.Statement{
		Ledger: ledger, By: by, At: now, Expires: now.Add(lifetime), Verb: use.Verb, Command: uuid.NewString(), Content: use.content(),
	}, signer)
	if err != nil {
		return "", err
	}
	b, err := events.Encode(envelope)
	return base64.RawURLEncoding.EncodeToString(b), err
}

// Check says who holds a token for a use, under the newest trust document. Errors are events.Errors; they hold nothing of the token.
func Check(token string, use Use, trust *events.Trust, now time.Time) (Holder, error) {
	s, err := open(token)
	if err != nil {
		return Holder{}, err
	}
	longest := MaxRead
	if use.Verb == Open {
		longest = maxOpen
	}
	holder := Holder{s.By, s.Key}
	switch {
	case s.Ledger != trust.Ledger:
		return Holder{}, events.Errorf(events.ReasonWrongLedger, "the token is for another ledger than %s", trust.Ledger)
	case s.Verb != use.Verb:
		return Holder{}, events.Errorf(ReasonOtherUse, "the token is for another use than %q", use.Verb)
	case s.Content != use.content() || s.Change != "" || !s.Digest.IsZero() || s.Reason != "":
		return Holder{}, events.Errorf(ReasonOtherUse, "the token is for another host than %s", use.Host)
	case s.At.After(now.Add(skew)):
		return Holder{}, events.Errorf(ReasonExpired, "the token begins at %s, and it is %s here", s.At.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case s.Expires.Sub(s.At) > longest:
		return Holder{}, events.Errorf(ReasonExpired, "the token would live for %s; at most %s are taken", s.Expires.Sub(s.At), longest)
	case !now.Before(s.Expires):
		return Holder{}, events.Errorf(ReasonExpired, "the token ended at %s, and it is %s here", s.Expires.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	if err := holder.May(trust, now); err != nil {
		return Holder{}, err
	}
	return holder, nil
}

// May says whether the person may read now: while they have the key, and any role, in the trust document. Roles are no narrower than
// that because what is read is no narrower: resources hold no secrets, and who approves for one environment looks at others.
func (h Holder) May(trust *events.Trust, now time.Time) error {
	p, known := trust.PersonOf(h.Key)
	if !known || p.Name != h.Name {
		return events.Errorf(events.ReasonSignature, "trust document %d does not know the key as one of that person", trust.Version)
	}
	delegated := slices.ContainsFunc(trust.Delegations, func(d events.Delegation) bool { return d.To == h.Name && now.Before(d.Until) })
	if len(p.Grants) == 0 && !delegated {
		return events.Errorf(ReasonNoRole, "%s has no role in trust document %d", h.Name, trust.Version)
	}
	return nil
}

// Looks says whether a text is a token, whoever's and however old.
func Looks(text string) bool {
	s, err := open(text)
	return err == nil && (s.Verb == Read || s.Verb == Open)
}

// open reads the one spelling of a token. What the parsers below would say quotes what they read.
func open(token string) (events.Statement, error) {
	var envelope events.Envelope
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	switch {
	case len(token) > maxToken:
		err = errors.New("too long")
	case err == nil && token != base64.RawURLEncoding.EncodeToString(b):
		err = errors.New("another spelling")
	case err == nil:
		err = events.DecodeStrict(b, &envelope)
	}
	var s events.Statement
	if err == nil {
		s, err = envelope.Open()
	}
	if err == nil && envelope.Signatures[0].KeyID != s.Key {
		err = errors.New("a hint at another key")
	}
	switch {
	case events.ReasonOf(err) == events.ReasonSignature:
		return s, events.Errorf(events.ReasonSignature, "the token is not signed by the key that it names")
	case err != nil:
		return s, events.Errorf(events.ReasonMalformed, "the token is not written as tokens are")
	}
	return s, nil
}
