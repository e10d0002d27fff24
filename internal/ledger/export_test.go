package ledger

import "maps"

// Inside is what the package keeps of a state for itself, in a form that compares.
func (s *State) Inside() map[string]any {
	return map[string]any{"order": s.order[:len(s.order):len(s.order)], "contents": maps.Clone(s.contents), "commands": maps.Clone(s.commands), "waves": maps.Clone(s.waves)}
}

// Sizes are how much is kept of what an agent said, and how much may be.
func (a *Agent) Sizes() (have, most [3]int) {
	return [3]int{len(a.kept), len(a.known), len(a.failing)}, [3]int{MaxKept, 2 * maxKnown, maxFailing}
}
