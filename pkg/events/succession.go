package events

import (
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nkeys"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

func itoa(n int) string { return strconv.Itoa(n) }

// Bounds of a trust document, so that every agent can hold and judge it.
const (
	maxPeople     = 1000
	maxRules      = 200
	maxApprovals  = 20
	maxPublishers = 20
	maxSelectors  = 100
	maxSignatures = 50
	maxDocument   = 256 << 10 // bytes
)

// Check says whether the document makes sense by itself; it does not look at signatures. Errors have ReasonTrust.
func (t *Trust) Check() error {
	switch {
	case t.Version < 1 || t.Ledger == "" || len(t.Publishers) == 0 || len(t.Publishers) > maxPublishers:
		return Errorf(ReasonTrust, "a trust document without version, ledger or publishers")
	case t.Approvals == ApprovalsAreNames:
		if t.Roots != nil || len(t.People)+len(t.Rules)+len(t.Delegations)+len(t.Labels)+len(t.Signatures) > 0 {
			return Errorf(ReasonTrust, "a document under which approvals are names knows no roots, people or rules")
		}
		return nil
	case t.Approvals != ApprovalsAreSigned:
		return Errorf(ReasonUpgradeNeeded, "the approval rule %q is not known; upgrade this program", clip(t.Approvals))
	case t.Roots == nil || t.Roots.Threshold < 1 || t.Roots.Threshold > len(t.Roots.Keys):
		return Errorf(ReasonTrust, "the roots of trust document %d can never sign: there must be at least as many keys as signatures", t.Version)
	case len(t.People) > maxPeople || len(t.Rules) > maxRules || len(t.Signatures) > maxSignatures:
		return Errorf(ReasonTrust, "a trust document has at most %d people, %d rules and %d signatures", maxPeople, maxRules, maxSignatures)
	}
	if b, err := Encode(t); err != nil || len(b) > maxDocument {
		return Errorf(ReasonTrust, "a trust document of %d bytes; it has at most %d", len(b), maxDocument)
	}
	if err := t.checkKeys(); err != nil {
		return err
	}
	for _, p := range t.People {
		for _, g := range p.Grants {
			if !slices.Contains(Roles, g.Role) || !areSelectors(g.Environments) {
				return Errorf(ReasonTrust, "%s is granted %q in %.10q: no such role, or nowhere", clip(p.Name), clip(string(g.Role)), g.Environments)
			}
		}
	}
	for _, d := range t.Delegations {
		if !t.knows(d.From) || !t.knows(d.To) || d.From == d.To || !slices.Contains(Roles, d.Role) || d.Until.IsZero() {
			return Errorf(ReasonTrust, "%q cannot delegate %q to %q", clip(d.From), clip(string(d.Role)), clip(d.To))
		}
	}
	return t.checkRules()
}

// checkKeys holds that one key is one person's, or one root's, or one publisher's: nobody acts as two.
func (t *Trust) checkKeys() error {
	owner := map[string]string{}
	claim := func(who string, keys []string) error {
		for _, key := range keys {
			if !nkeys.IsValidPublicUserKey(key) {
				return Errorf(ReasonTrust, "%q of %s is no public user key (U…)", clip(key), clip(who))
			}
			if other, taken := owner[key]; taken {
				return Errorf(ReasonTrust, "one key is both of %s and of %s", clip(other), clip(who))
			}
			owner[key] = who
		}
		return nil
	}
	if err := claim("the publishers", t.Publishers); err != nil {
		return err
	}
	if err := claim("the roots", t.Roots.Keys); err != nil {
		return err
	}
	names := map[string]bool{}
	for _, p := range t.People {
		folded := strings.ToLower(p.Name)
		if !isPrintable(p.Name) || strings.TrimSpace(p.Name) != p.Name || p.Name == "" || len(p.Name) > 128 || names[folded] || len(p.Keys) == 0 {
			return Errorf(ReasonTrust, "%q is no name of a person, or of two, or has no key: names are printable ASCII, and differ by more than case", clip(p.Name))
		}
		names[folded] = true
		if err := claim(p.Name, p.Keys); err != nil {
			return err
		}
	}
	return nil
}

func (t *Trust) knows(person string) bool {
	return slices.ContainsFunc(t.People, func(p Person) bool { return p.Name == person })
}

// areSelectors says whether texts are selectors of environments, and whether there is one.
func areSelectors(list []string) bool {
	return len(list) > 0 && len(list) <= maxSelectors && !slices.ContainsFunc(list, func(s string) bool {
		return s == "" || len(s) > 256 || !isPrintable(s) || strings.HasPrefix(s, "=") || strings.Contains(s, " ")
	})
}

func (t *Trust) checkRules() error {
	for i, r := range t.Rules {
		if !areSelectors(r.Environments) || len(r.Resources) > maxSelectors || r.Approvals < 0 || r.Approvals > maxApprovals || slices.ContainsFunc(r.Roles, func(role Role) bool { return !slices.Contains(Roles, role) }) {
			return Errorf(ReasonTrust, "rule %d demands %d approvals of %v in %v: at most %d, by known roles, somewhere", i+1, r.Approvals, r.Roles, r.Environments, maxApprovals)
		}
	}
	if n := len(t.Rules); n == 0 || !slices.Contains(t.Rules[n-1].Environments, "*") || len(t.Rules[n-1].Resources) > 0 || t.Rules[n-1].Approvals < 1 {
		return Errorf(ReasonTrust, `the last rule must be for every resource of every environment ("*") and demand an approval, so that nothing is left without a rule`)
	}
	return nil
}

// CheckSuccession says whether the document may follow another: the next version of the same ledger, signed by the roots it needs,
// which are those before it and its own; where approvals were names it is the publisher that vouches for the first roots. Previous is
// nil for an environment's first document, which the enrolment pins. Errors have ReasonTrust or ReasonSignature.
func (t *Trust) CheckSuccession(previous *Trust) error {
	if err := t.Check(); err != nil {
		return err
	}
	if previous != nil && (t.Version != previous.Version+1 || t.Ledger != previous.Ledger) {
		return Errorf(ReasonTrust, "trust document %d of ledger %s does not follow document %d of %s", t.Version, clip(t.Ledger), previous.Version, previous.Ledger)
	}
	if t.Approvals == ApprovalsAreNames {
		if previous != nil && previous.Approvals != ApprovalsAreNames {
			return Errorf(ReasonTrust, "trust document %d makes approvals names again; what was signed stays signed", t.Version)
		}
		return nil
	}
	if err := t.signedBy(t.Roots); err != nil {
		return err
	}
	if previous != nil && previous.Roots != nil {
		return t.signedBy(previous.Roots)
	}
	return nil
}

// CheckRoot says whether a signature is one under the document, of a root of its own or of the document before. Errors have ReasonTrust
// or ReasonSignature.
func (t *Trust) CheckRoot(s RootSignature, previous *Trust) error {
	known := t.Roots != nil && slices.Contains(t.Roots.Keys, s.Key)
	if previous != nil && previous.Roots != nil {
		known = known || slices.Contains(previous.Roots.Keys, s.Key)
	}
	if !known {
		return Errorf(ReasonTrust, "%s is no root of trust document %d, nor of the one before it", clip(s.Key), t.Version)
	}
	body, err := t.Body()
	if err != nil {
		return err
	}
	return t.checkRoot(s, dsse.PAE(TrustType, body))
}

func (t *Trust) checkRoot(s RootSignature, message []byte) error {
	sig, err := decodeBase64(s.Sig)
	if err != nil || verify(s.Key, message, sig) != nil {
		return Errorf(ReasonSignature, "the signature of root %s under trust document %d is not theirs", s.Key, t.Version)
	}
	return nil
}

// signedBy says whether enough of some roots signed the document.
func (t *Trust) signedBy(roots *Roots) error {
	body, err := t.Body()
	if err != nil {
		return err
	}
	message := dsse.PAE(TrustType, body)
	signed := map[string]bool{}
	for _, s := range t.Signatures {
		if !slices.Contains(roots.Keys, s.Key) {
			continue // of the other document's roots
		}
		if signed[s.Key] {
			return Errorf(ReasonSignature, "root %s signs trust document %d twice", s.Key, t.Version)
		}
		if err := t.checkRoot(s, message); err != nil {
			return err
		}
		signed[s.Key] = true
	}
	if len(signed) < roots.Threshold {
		return Errorf(ReasonSignature, "trust document %d is signed by %d of the %d roots that it needs", t.Version, len(signed), roots.Threshold)
	}
	return nil
}
