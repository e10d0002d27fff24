package keys

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/lockstep-dev/lockstep/internal/config"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// APIVersion and EnrolmentKind begin an enrolment file.
const (
	APIVersion    = "lockstep/v1"
	EnrolmentKind = "Enrolment"
)

// An Enrolment is what an agent is given once: who it is, whom it believes, and from where. It pins the environment's head, which
// authenticates everything before it (ARCHITECTURE.md, Trust).
type Enrolment struct {
	APIVersion  string        `yaml:"apiVersion"`
	Kind        string        `yaml:"kind"`
	Environment string        `yaml:"environment"`
	Agent       string        `yaml:"agent"`
	Seed        string        `yaml:"seed"` // the agent's nkey seed: the file is a secret
	Ledger      string        `yaml:"ledger"`
	Publishers  []string      `yaml:"publishers"`         // public nkeys, of the newest trust document
	Trust       events.Digest `yaml:"trust"`              // digest of that document
	Document    string        `yaml:"document,omitempty"` // that document itself, as JSON; files of before there were credentials have none
	Head        Head          `yaml:"head"`
	Bus         Bus           `yaml:"bus"`
}

// A Head is a revision of an environment and its chain digest.
type Head struct {
	Revision uint64        `yaml:"revision"`
	Chain    events.Digest `yaml:"chain"`
}

// Bus is how the agent reaches the bus. Relative paths are relative to the enrolment file.
type Bus struct {
	URL         string `yaml:"url,omitempty"` // one or more NATS addresses, separated by commas
	CA          string `yaml:"ca,omitempty"`  // PEM file: who may have signed the server's certificate
	Cert        string `yaml:"cert,omitempty"`
	Key         string `yaml:"key,omitempty"`
	Credentials string `yaml:"credentials,omitempty"` // NATS credentials file
	JWT         string `yaml:"jwt,omitempty"`         // or the publisher's word that the seed's owner comes in
	Authorities string `yaml:"authorities,omitempty"` // PEM text, instead of CA
}

// Write writes the enrolment to a file that only its owner can read.
func (e *Enrolment) Write(path string) error {
	e.APIVersion, e.Kind = APIVersion, EnrolmentKind
	if err := e.check(); err != nil {
		return fmt.Errorf("write enrolment: %w", err)
	}
	b, err := yaml.Marshal(e)
	if err != nil {
		return fmt.Errorf("write enrolment: %w", err)
	}
	if err := WritePrivate(path, b); err != nil {
		return fmt.Errorf("write enrolment: %w", err)
	}
	return nil
}

// ReadEnrolment reads what Write wrote. A file that others can read or write is ErrExposed.
func ReadEnrolment(path string) (*Enrolment, error) {
	e, err := readEnrolment(path)
	if err != nil {
		return nil, err
	}
	for _, p := range []*string{&e.Bus.CA, &e.Bus.Cert, &e.Bus.Key, &e.Bus.Credentials} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(filepath.Dir(path), *p)
		}
	}
	return e, nil
}

// readEnrolment leaves paths as they are written.
func readEnrolment(path string) (*Enrolment, error) {
	b, err := ReadPrivate(path)
	if err != nil {
		return nil, fmt.Errorf("read enrolment: %w", err)
	}
	var e Enrolment
	if err := config.Decode(path, b, &e); err != nil {
		return nil, fmt.Errorf("read enrolment: %w", hideSource(err))
	}
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("read enrolment: %s: %w: enrol the agent again with `publisher env enrol`", path, err)
	}
	return &e, nil
}

// EditEnrolment changes an enrolment file: whole or not at all.
func EditEnrolment(path string, change func(*Enrolment) error) error {
	e, err := readEnrolment(path)
	if err != nil {
		return err
	}
	if err := change(e); err != nil {
		return err
	}
	return e.Write(path)
}

// secret is what a seed, a JWT, or a part of one looks like.
var secret = regexp.MustCompile(`[A-Z2-7]{16,}|[A-Za-z0-9_-]{40,}(\.[A-Za-z0-9_-]*)*`)

// hideSource takes the line of the file out of a decode error, and what looks like a secret out of its message.
func hideSource(err error) error {
	if e, ok := errors.AsType[*config.Error](err); ok {
		hidden := *e
		hidden.Source, hidden.Message = "", secret.ReplaceAllString(hidden.Message, "…")
		return &hidden
	}
	return err
}

// Pin has the enrolment pin a trust document.
func (e *Enrolment) Pin(t *events.Trust) (err error) {
	if e.Trust, err = t.Digest(); err != nil {
		return err
	}
	document, err := json.Marshal(t)
	e.Publishers, e.Document = t.Publishers, string(document)
	return err
}

// Pinned is the trust document that the enrolment pins; nil where the file has its digest only.
func (e *Enrolment) Pinned() (*events.Trust, error) {
	if e.Document == "" {
		return nil, nil
	}
	t := new(events.Trust)
	decoder := json.NewDecoder(strings.NewReader(e.Document))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(t); err != nil || decoder.More() {
		return nil, errors.New("document is no trust document that this program understands")
	}
	digest, err := t.Digest()
	if err != nil || digest != e.Trust || !slices.Equal(t.Publishers, e.Publishers) {
		return nil, errors.New("document is not the one that trust and publishers are of")
	}
	return t, nil
}

// Signer signs as the agent.
func (e *Enrolment) Signer() (*events.Signer, error) { return events.NewSigner([]byte(e.Seed)) }

var isJWT = regexp.MustCompile(`^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$`)

func (e *Enrolment) check() error {
	switch {
	case e.APIVersion != APIVersion || e.Kind != EnrolmentKind:
		return fmt.Errorf("want apiVersion %s and kind %s, have %q and %q", APIVersion, EnrolmentKind, e.APIVersion, e.Kind)
	case e.Ledger == "":
		return errors.New("ledger is missing")
	case len(e.Publishers) == 0:
		return errors.New("publishers is empty")
	case e.Trust.IsZero():
		return errors.New("trust is missing")
	case e.Bus.JWT != "" && !isJWT.MatchString(e.Bus.JWT):
		return errors.New("bus.jwt is no JWT")
	case e.Bus.JWT != "" && e.Bus.Credentials != "":
		return errors.New("bus.jwt and bus.credentials are both given: one of them is to say who comes in")
	case e.Head.Revision == 0 || e.Head.Chain.IsZero():
		return errors.New("head is missing")
	}
	if err := events.CheckName(e.Environment); err != nil {
		return fmt.Errorf("environment: %w", err)
	}
	if err := events.CheckName(e.Agent); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	if _, err := e.Pinned(); err != nil {
		return err
	}
	if _, err := e.Signer(); err != nil {
		return errors.New("seed is no user nkey seed (SU…)")
	}
	return nil
}
