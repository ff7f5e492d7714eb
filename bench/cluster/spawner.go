package cluster

import (
	"os/exec"
	"runtime"
	"sync"
)

// spawner starts processes from one thread that lives as long as this process: on Linux the parent-death
// signal of a child is tied to the thread that started it, not to the process.
var spawner struct {
	once sync.Once
	work chan func()
}

func spawn(cmd *exec.Cmd) error {
	spawner.once.Do(func() {
		spawner.work = make(chan func())
		go func() {
			runtime.LockOSThread()
			for f := range spawner.work {
				f()
			}
		}()
	})
	result := make(chan error)
	spawner.work <- func() { result <- cmd.Start() }
	return <-result
}
