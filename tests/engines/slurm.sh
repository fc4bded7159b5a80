#!/usr/bin/env bash
# A Slurm of this machine alone, for tests: munged, slurmctld and one slurmd, all in one folder.
#
#   slurm.sh install        what Debian calls slurm-wlm and munge (root)
#   slurm.sh start FOLDER   start it; afterwards SLURM_CONF=FOLDER/slurm.conf makes sbatch and the like use it (root)
#   slurm.sh stop FOLDER    stop it and all that runs in it
#
# Nothing of the machine's own Slurm, where it has one, is touched: keys, ports, sockets and states are FOLDER's.
set -euo pipefail

SLOTS=${SLOTS:-4}  # cores the node claims to have; a sweep's workers need no more than that, however few are real

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

install() {
  if command -v slurmctld slurmd munged >/dev/null; then
    return 0
  fi
  if [ "$(id -u)" != 0 ]; then
    echo "Slurm is not installed, and only root can do that: its tests skip"
  else
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge
  fi
}

start() {
  local folder=$1
  mkdir -p "$folder/state" "$folder/spool" "$folder/log"
  chmod 755 "$folder"
  head -c 1024 /dev/urandom >"$folder/munge.key"
  chmod 400 "$folder/munge.key"
  # Containers have neither systemd nor a control group of their own to give away: processes are tracked by /proc.
  # A credential lives for 5 s here, and a job that is queued again waits that long; elsewhere it is two minutes.
  cat >"$folder/slurm.conf" <<END
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld
SlurmdLogFile=$folder/log/slurmd
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=2
SlurmdParameters=config_overrides
KillWait=5
NodeName=localhost NodeHostname=localhost NodeAddr=127.0.0.1 CPUs=$SLOTS RealMemory=4000 State=UNKNOWN
PartitionName=compute Nodes=localhost Default=YES MaxTime=INFINITE State=UP
END
  printf 'CgroupPlugin=cgroup/v1\nIgnoreSystemd=yes\n' >"$folder/cgroup.conf"
  export SLURM_CONF=$folder/slurm.conf
  munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/log/munged" --seed-file="$folder/munged.seed"
  slurmctld
  slurmd -N localhost
  for _ in $(seq 100); do
    if [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ]; then
      return 0
    fi
    sleep 0.2
  done
  echo "Slurm did not come up:" >&2
  tail -n 20 "$folder/log/slurmctld" >&2
  tail -n 20 "$folder/log/slurmd" >&2
  stop "$folder"
  exit 1
}

stop() {
  local folder=$1 name pid
  export SLURM_CONF=$folder/slurm.conf
  scancel --quiet --signal=KILL --user="$(id -u)" 2>/dev/null || true
  for name in slurmd slurmctld munged; do
    pid=$(cat "$folder/$name.pid" 2>/dev/null || true)
    if [ -n "$pid" ] && kill "$pid" 2>/dev/null; then
      for _ in $(seq 50); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
      done
      kill -9 "$pid" 2>/dev/null || true
    fi
  done
}

case "${1:-}" in
  install) install ;;
  start) start "$2" ;;
  stop) stop "$2" ;;
  *) sed -n '2,9p' "$0"; exit 2 ;;
esac
