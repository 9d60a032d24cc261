"""The Kubernetes files of docs/deploy: python3 manifests.py PLEAT

Parses them, holds the fields of what Kubernetes itself does not define against the definitions (kubeflow.org/v2beta1 MPIJob,
leaderworkerset.x-k8s.io/v1), looks at what must fit together, and gives each command line to the program itself, which must get
as far as the files that are not here. The leader's script runs with stand-ins for its pods. Exits with 1 and a sentence at the
first fault.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

import yaml

FOLDER = pathlib.Path(__file__).parents[3] / "docs" / "deploy"
KINDS = {"apps/v1": {"Deployment", "StatefulSet"}, "v1": {"Service"}, "kubeflow.org/v2beta1": {"MPIJob"},
         "leaderworkerset.x-k8s.io/v1": {"LeaderWorkerSet"}}
FIELDS = {
    "MPIJob": {
        "spec": {"slotsPerWorker", "runLauncherAsWorker", "runPolicy", "mpiReplicaSpecs", "sshAuthMountPath", "launcherCreationPolicy",
                 "mpiImplementation"},
        "spec.runPolicy": {"cleanPodPolicy", "ttlSecondsAfterFinished", "activeDeadlineSeconds", "backoffLimit", "schedulingPolicy",
                           "suspend", "managedBy"},
        "spec.mpiReplicaSpecs": {"Launcher", "Worker"},
        "spec.mpiReplicaSpecs.Launcher": {"replicas", "template", "restartPolicy"},
        "spec.mpiReplicaSpecs.Worker": {"replicas", "template", "restartPolicy"}},
    "LeaderWorkerSet": {
        "spec": {"replicas", "leaderWorkerTemplate", "rolloutStrategy", "startupPolicy", "networkConfig"},
        "spec.leaderWorkerTemplate": {"leaderTemplate", "workerTemplate", "size", "restartPolicy", "subGroupPolicy",
                                      "volumeClaimTemplates", "persistentVolumeClaimRetentionPolicy"},
        "spec.networkConfig": {"subdomainPolicy"}}}
CHOICES = {"spec.startupPolicy": {"LeaderCreated", "LeaderReady"}, "spec.networkConfig.subdomainPolicy": {"Shared", "UniquePerReplica"},
           "spec.leaderWorkerTemplate.restartPolicy": {"RecreateGroupOnPodRestart", "RecreateGroupAfterStart", "None"},
           "spec.runPolicy.cleanPodPolicy": {"Running", "None", "All"}}
POD = {"containers", "volumes", "restartPolicy", "terminationGracePeriodSeconds"}
CONTAINER = {"name", "image", "command", "env", "ports", "readinessProbe", "livenessProbe", "resources", "volumeMounts", "lifecycle"}


def check(holds, sentence):
    if not holds:
        sys.exit(f"manifests: {sentence}")


def at(document, path):
    for name in path.split("."):
        document = (document or {}).get(name)
    return document


def pods(document, path=""):
    """(path, pod template) of every pod that the document describes."""
    for name, value in document.items():
        if isinstance(value, dict):
            if name.lower().endswith("template") and "containers" in value.get("spec", {}):
                yield f"{path}.{name}", value
            else:
                yield from pods(value, f"{path}.{name}")


def check_pod(where, template):
    pod = template["spec"]
    check(set(pod) <= POD, f"{where}: {set(pod) - POD} of a pod is not known")
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    mounted = set()
    for container in pod["containers"]:
        check(set(container) <= CONTAINER, f"{where}: {set(container) - CONTAINER} of a container is not known")
        mounted |= {mount["name"] for mount in container.get("volumeMounts", [])}
        ports = {port["containerPort"] for port in container.get("ports", [])}
        for probe in ("readinessProbe", "livenessProbe"):
            for how in ("tcpSocket", "httpGet"):
                port = at(container, f"{probe}.{how}.port")
                check(port is None or port in ports, f"{where}: {probe} asks port {port}, which is none of {ports}")
    check(mounted == volumes, f"{where} mounts {mounted} of {volumes}")


def leaders_command(pleat, script, environment):
    """What the leader's script runs at last, with two workers of which one comes late."""
    with tempfile.TemporaryDirectory() as folder:
        programs = {"pleat": 'printf "%s\\n" "$@" >"$FOLDER/command"', "hostname": "echo pleat-1",
                    "ssh": 'echo "$@" >>"$FOLDER/asked"; [ "$(grep -c . "$FOLDER/asked")" -gt 1 ]', "sleep": ":"}
        for name, body in programs.items():
            path = pathlib.Path(folder) / name
            path.write_text(f"#!/bin/bash\n{body}\n")
            path.chmod(0o755)
        script = script.replace("/tmp/hosts", f"{folder}/hosts")
        group = {"LWS_LEADER_ADDRESS": "pleat-1.pleat.default", "LWS_GROUP_SIZE": "3", "LWS_WORKER_INDEX": "0", "FOLDER": folder}
        run = subprocess.run(["bash", "-euc", script], env={**environment, **group, "PATH": f"{folder}:{os.environ['PATH']}"},
                             capture_output=True, text=True, timeout=20)
        check(run.returncode == 0, f"the leader's script fails: {run.stderr}")
        slots = environment["SLOTS"]
        hosts = pathlib.Path(folder, "hosts").read_text()
        expected = "".join(f"{host} slots={slots}\n" for host in ("pleat-1", "pleat-1-1.pleat.default", "pleat-1-2.pleat.default"))
        check(hosts == expected, f"the leader's hosts are {hosts!r}")
        command = pathlib.Path(folder, "command").read_text().splitlines()
        check(command[:3] == ["launch", "-n", str(3 * int(slots))], f"the leader starts {command}")
        check_command(pleat, ["pleat", *command])
        return command


def check_command(pleat, command):
    """The program takes all its flags, and stops where a file is not there."""
    lines = [command[1:]]
    if command[1] == "launch":
        end = command.index("--")
        lines = [command[1:end] + ["--", "compose"], command[end + 1:]]
    for line in lines:
        run = subprocess.run([pleat, *line], capture_output=True, text=True, timeout=60)
        missing = [word for word in line if word.startswith("/")] + (["'compose' does not run"] if line[0] == "launch" else [])
        check(run.returncode == 2 and any(what in run.stderr for what in missing),
              f"pleat {' '.join(line)} ends with {run.returncode}: {run.stderr.strip()}")


def check_file(pleat, path):
    documents = list(yaml.safe_load_all(path.read_text()))
    labels, ports = [], set()
    for document in documents:
        kind = document["kind"]
        where = f"{path.name}: {kind} {document['metadata']['name']}"
        check(kind in KINDS.get(document["apiVersion"], ()), f"{where} is not of {document['apiVersion']}")
        for part, known in FIELDS.get(kind, {}).items():
            check(set(at(document, part) or {}) <= known, f"{where}: {set(at(document, part) or {}) - known} of {part} is not known")
        for part, known in CHOICES.items():
            check(at(document, part) is None or at(document, part) in known, f"{where}: {part} is {at(document, part)}")
        for place, template in pods(document):
            check_pod(f"{where}{place}", template)
            labels.append(at(template, "metadata.labels") or {})
            if "selector" in document["spec"]:
                check(document["spec"]["selector"]["matchLabels"].items() <= labels[-1].items(), f"{where} selects other pods")
            for container in template["spec"]["containers"]:
                ports |= {port["containerPort"] for port in container.get("ports", [])}
                command = container.get("command", ["nothing"])
                if command[0] == "pleat":
                    check_command(pleat, command)
                elif command[0] == "bash":
                    leaders_command(pleat, command[-1], {one["name"]: one["value"] for one in container["env"]})
    for document in documents:
        if document["kind"] == "Service":
            name = document["metadata"]["name"]
            check(any(document["spec"]["selector"].items() <= of.items() for of in labels), f"{path.name}: {name} selects no pod")
            check(all(port.get("targetPort", port["port"]) in ports for port in document["spec"]["ports"]), f"{path.name}: ports of {name}")
    check_replicas(path, documents)


def check_replicas(path, documents):
    """The router asks each server there is, by the name that its set gives it."""
    sets = {d["metadata"]["name"]: d["spec"]["replicas"] for d in documents if d["kind"] in ("StatefulSet", "LeaderWorkerSet")}
    served = {f"{name}-{index}.{name}:7532" for name, replicas in sets.items() for index in range(replicas)}
    asked = set(re.findall(r'"([\w-]+\.[\w-]+:7532)"', path.read_text()))
    check(asked == served, f"{path.name}: the router asks {asked}, there are {served}")


def main(pleat):
    paths = sorted(FOLDER.glob("kubernetes-*.yaml"))
    check(len(paths) == 3, f"there are {len(paths)} files")
    for path in paths:
        check_file(pleat, path)
    print(f"{len(paths)} files: fields, ports, volumes, selectors and command lines fit")


main(sys.argv[1])
