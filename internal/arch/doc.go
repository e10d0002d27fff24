// Package arch holds the rules of the architecture as tests: who may import whom and why not, what every package and file has,
// what tests may not do, and that everything shipped beside the code fits it. It has no code of its own.
package arch
