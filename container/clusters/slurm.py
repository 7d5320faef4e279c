"""A Dask cluster of SLURM jobs for `recon batch` and `recon sweep`, one worker and one run at a time per job.

On a login node, in the environment that has recon, which the compute nodes see under the same path, as they see `outputs/`:

    python -m pip install dask-jobqueue==0.9.0
    python container/clusters/slurm.py --jobs 8 --partition gpu --gpu &
    recon batch params/batches/sample.yaml --scheduler tcp://ADDRESS    # the address that it printed

It asks SLURM for new jobs where some end, and cancels all when it is interrupted (Ctrl-C).
"""

import argparse
import os
import signal

from dask_jobqueue import SLURMCluster


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1, help="SLURM jobs that run at once")
    parser.add_argument("--partition", help="SLURM partition; without it, SLURM's default")
    parser.add_argument("--gpu", action="store_true", help="each job gets one GPU")
    parser.add_argument("--cores", type=int, default=4, help="processor cores of a job")
    parser.add_argument("--memory", default="16GB", help="memory of a job")
    parser.add_argument(
        "--hours", type=int, default=12, help="after which SLURM ends a job; a run then resumes in another"
    )
    parser.add_argument(
        "--interface", help="network interface of the scheduler, which must be a private one, such as ib0"
    )
    asked = parser.parse_args()
    cluster = SLURMCluster(
        queue=asked.partition,
        cores=1,  # a worker carries out one run at a time, which uses all cores of the job
        processes=1,
        job_cpu=asked.cores,
        memory=asked.memory,
        walltime=f"{asked.hours}:00:00",
        interface=asked.interface,
        job_extra_directives=["--gres=gpu:1"] if asked.gpu else [],
        job_script_prologue=[f"cd {os.getcwd()}"],
        worker_extra_args=["--resources", "GPU=1"] if asked.gpu else [],
    )
    cluster.adapt(minimum_jobs=asked.jobs, maximum_jobs=asked.jobs)
    print(cluster.scheduler_address, flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        signal.pause()
    except KeyboardInterrupt:
        cluster.close()


if __name__ == "__main__":
    main()
