// Package policy judges proposed changes by manifests of kind Policy.
//
// A policy is shaped as Kubernetes' ValidatingAdmissionPolicy: what it matches, CEL expressions that must be true, and what follows
// where one is not: the change is denied, people are warned, more people must approve, a ticket is demanded, another environment must
// have it first, or the change has a class of risk.
//
// Guarantees: the same request gives the same verdicts, in the same order, whatever the order of files; another policy never takes
// a denial away; expressions are type-checked when they are read, with file and line, and bounded in size and cost; every verdict
// names policy, rule, file and line; a value that many environments share is judged once.
//
// It is pure: what was released, what would be, and the time are arguments. It is not for what holds without anybody writing a
// policy: locks, types and secrets are checked elsewhere.
package policy
