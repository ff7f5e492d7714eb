// Package flights checks the answer of the flights job (examples/flights) against a program that shares
// nothing with it: check.py, in another language, from the CSV file itself, with the standard library alone.
//
//	python3 check.py FILE.csv[.gz]
//
// prints, per origin, the flights, the mean delay, the share delayed by more than 15 minutes and the 95th
// percentile by nearest rank, in the form of the job's answer.
package flights
