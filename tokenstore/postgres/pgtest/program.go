package pgtest

import "fmt"

// ForProgram is a server for a program that is no test. It ends by end, and with
// the process at the latest.
func ForProgram(settings ...string) (s *Server, end func(), err error) {
	owner := &processTB{}
	defer func() {
		// What fails a test is a panic here.
		if p := recover(); p != nil {
			owner.end()
			err = fmt.Errorf("%v", p)
		}
	}()
	s = Start(owner, settings...)
	return s, owner.end, nil
}
