package ledger

// judge says whether what is proposed may be. Every proposal comes here, whatever it was made of: each set of rules has its call here,
// and refuses once, naming everything that breaks it.
func (d *decision) judge(p Propose, c Compilation, id string) error {
	if err := judgeSecrets(p, c); err != nil {
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
