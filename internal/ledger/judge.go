package ledger

// judge says whether what is proposed may be. Every proposal comes here, whatever it was made of: each set of rules has its call here,
// and refuses once, naming everything that breaks it.
func (d *decision) judge(p Propose, c Compilation) error {
	return d.judgePolicies(p, c)
}
