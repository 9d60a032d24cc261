#pragma once
// Keeps one MPI job running: starts mpirun, watches it, asks it to end, starts it again with back-off.
#include "launcher/mpirun_command.h"

namespace pleat {

// Runs the job until it is done, and returns its exit code.
//
// A job that ends with 0 is done; one that ends with 2 (wrong usage or input) would do so again. After any other end it
// starts again, after 1 s, then 2, 4 ... 60 s; `restarts` failures in a row and it gives up. A job that ran for a
// minute begins a new row.
//
// SIGTERM, SIGINT, SIGHUP, SIGQUIT and SIGUSR1 (often Slurm's before its time limit) ask the job to end in order:
// mpirun passes SIGUSR1 to every rank's guardian (SIGTERM would have it kill the ranks a second later). A second one
// goes to mpirun as it is. Then nothing is started again.
//
// Whatever the job leaves of processes on this host is killed before the next start. Error(unimplemented) without
// mpirun.
int supervise(const LaunchOptions& options);

}  // namespace pleat
