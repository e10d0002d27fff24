package ledger

import "time"

// judge says whether what is proposed may be. Every proposal comes here, whatever it was made of: each set of rules has its call here,
// and refuses once, naming everything that breaks it.
func (d *decision) judge(p Propose, c Compilation, id string) error {
	if err := judgeSecrets(c); err != nil {
		return err
	}
	if err := judgeFlags(c, id); err != nil {
		return err
	}
	if err := d.keepRules(p, c); err != nil {
		return err
	}
	return d.judgePolicies(p, c)
}

// Objections are what the compilation of a directory would be refused for now, whoever proposes it, without what policies say: what
// must be confirmed, values, and rules; and which waivers it uses. Agents are the versions that agents said of themselves. It changes nothing.
func (s *State) Objections(c Compilation, change string, agents map[string]map[string]string, now time.Time) (refused, waived []string) {
	d := &decision{State: s, agents: agents, now: now}
	for _, err := range []error{c.allowed(false, 0, "publisher diff -f DIR"), judgeSecrets(c), judgeFlags(c, change), d.keepRules(Propose{}, c)} {
		if err != nil {
			refused = append(refused, err.Error())
		}
	}
	return refused, d.notes
}
