"""Operator: does the machinery work?"""

from dashboards.panels import (
    BYTES,
    CORES,
    GREEN,
    PER_MINUTE,
    PER_SECOND,
    RED,
    SECONDS,
    SHARE,
    YELLOW,
    Panels,
    Series,
    Text,
    build,
    figure,
    graph,
    rows,
)
from dashboards.queries import AGENT, CONTROLLER, GATEWAY, JOBS, WORKER, per_minute, quantile

UID = "avatar-agent-operator"

_RECONCILES = f"{CONTROLLER}reconciles_total"
_FAILED = f'{_RECONCILES}{{outcome!="success"}}'
_LIVEKIT = f"{GATEWAY}livekit_request_duration_seconds"
_HTTP = f"{GATEWAY}http_request_duration_seconds"
_API = f"{CONTROLLER}api_request_duration_seconds"


def _answers() -> Panels:
    """Return the figures at the top: does the machinery work?"""
    return [
        figure(
            "Leader",
            f"min(sum by (namespace) ({CONTROLLER}leading)) or vector(0)",
            Text(
                "Each installation has exactly one leader. Without one, nothing reconciles: calls continue, but the "
                "number of workers stays. It shows 2 for up to five minutes after the leader's node is lost.",
                "NoLeader",
            ),
            first=RED,
            steps=[(1, GREEN), (2, YELLOW)],
            names=[(0, "No leader", RED), (1, "Leads", GREEN)],
        ),
        figure(
            "Controllers",
            f"min(count by (namespace) ({CONTROLLER}leading)) or vector(0)",
            Text("Leader and standbys. Normally `controller.replicas`, which is 2.", "NoLeader"),
            first=RED,
            steps=[(1, YELLOW), (2, GREEN)],
        ),
        figure(
            "Since the last success",
            f"max(time() - {CONTROLLER}last_success_timestamp_seconds)",
            Text(
                "Time since a reconcile last succeeded. Seconds while something changes. Without changes it grows, "
                "and that is normal while the queue is empty.",
                "ControllerStuck",
            ),
            unit=SECONDS,
            steps=[(900, YELLOW)],
            decimals=0,
            empty="no success yet",
        ),
        figure(
            "Reconciles failing",
            f"(sum(increase({_FAILED}[$__range])) or vector(0)) / (sum(increase({_RECONCILES}[$__range])) > 0)",
            Text(
                "Share of reconciles in the shown time that did not succeed. Normally below 1 %. The controller "
                "retries them.",
                "ReconcilesFail",
            ),
            unit=SHARE,
            steps=[(0.01, YELLOW), (0.1, RED)],
            decimals=1,
            empty="no reconciles",
        ),
        figure(
            "Gateway to controller",
            f"min({GATEWAY}controller_reachable)",
            Text(
                "Whether the gateway reaches the controller. When it does not, it dispatches calls without counting "
                "free slots, and no worker starts for waiting callers.",
                "ControllerUnreachable",
            ),
            first=RED,
            steps=[(1, GREEN)],
            names=[(0, "Unreachable", RED), (1, "Reachable", GREEN)],
            empty="No gateway",
        ),
        figure(
            "Processes not scraped",
            f"sum(up{{{JOBS}}} == bool 0)",
            Text(
                "Controllers, gateways and workers that Prometheus knows and cannot scrape. Normally 0. A process "
                "that starts or ends counts for a moment.",
                "GatewayDown",
            ),
            steps=[(1, RED)],
            empty="none found",
        ),
    ]


def _controller() -> Panels:
    """Return the panels of the controller."""
    return [
        graph(
            "Reconciles by outcome",
            [Series(per_minute(_RECONCILES, "outcome"), "{{outcome}}")],
            Text(
                "Almost all are `success`. `rejected` names a wrong object or a missing right, `failed` and `timeout` "
                "a slow API server, `crashed` a bug.",
                "ReconcilesFail",
            ),
            unit=PER_MINUTE,
            bars=True,
        ),
        graph(
            "Reconcile duration",
            [
                Series(quantile(0.5, f"{CONTROLLER}reconcile_duration_seconds_bucket"), "p50"),
                Series(quantile(0.99, f"{CONTROLLER}reconcile_duration_seconds_bucket"), "p99"),
            ],
            Text(
                "Normally below 1 s. At 90 s the controller gives a reconcile up, counts `timeout` and retries.",
                "ControllerStuck",
            ),
            unit=SECONDS,
            steps=[(90, RED)],
        ),
        graph(
            "Queue",
            [
                Series(f"max by (pod) ({CONTROLLER}queue_length)", "{{pod}}"),
                Series(per_minute(f"{CONTROLLER}queue_retries_total"), "retries per minute"),
            ],
            Text("Agents that wait for a reconcile. Normally 0, and short peaks after a restart.", "ControllerStuck"),
        ),
        graph(
            "Wait in the queue, p99",
            [Series(quantile(0.99, f"{CONTROLLER}queue_wait_duration_seconds_bucket"), "p99")],
            Text("Normally below 1 s. Longer when many agents change at once.", "ControllerStuck"),
            unit=SECONDS,
        ),
        graph(
            "API requests by verb and code",
            [Series(f"sum by (verb, code) (rate({_API}_count[$__rate_interval]))", "{{verb}} {{code}}")],
            Text(
                "Requests of the controllers to the API server. Codes of 400 and more are rare, except some 409; "
                "code 0 means no answer.",
                "ReconcilesFail",
            ),
            unit=PER_SECOND,
        ),
        graph(
            "API request duration, p95",
            [Series(quantile(0.95, f"{_API}_bucket", "verb"), "{{verb}}")],
            Text("Normally below 0.1 s. More means a slow API server or a slow admission webhook.", "ReconcilesFail"),
            unit=SECONDS,
        ),
        graph(
            "Age of each watch",
            [
                Series(
                    f"time() - max by (kind) ({CONTROLLER}watch_last_contact_timestamp_seconds)",
                    "{{kind}}",
                )
            ],
            Text(
                "Time since the API server last answered on a watch. Normally below some minutes. A line that only "
                "rises is a watch that broke: the controller acts on old data.",
                "ControllerStuck",
            ),
            unit=SECONDS,
        ),
        rows(
            "Versions",
            "count by (component, version) (avatar_agent_build_info)",
            ["component", "version"],
            Text(
                "One version of each component, except during an upgrade. Workers keep their version until their "
                "calls are over.",
                no_runbook="different versions are normal during an upgrade.",
            ),
            value="processes",
            width=16,
        ),
    ]


def _gateway() -> Panels:
    """Return the panels of the gateway and of LiveKit."""
    return [
        graph(
            "HTTP requests by route and code",
            [Series(per_minute(f"{_HTTP}_count", "method, route, code"), "{{method}} {{route}} {{code}}")],
            Text("Codes of 500 and more are not normal.", "GatewayDown"),
            unit=PER_MINUTE,
        ),
        graph(
            "HTTP request duration, p95",
            [Series(quantile(0.95, f"{_HTTP}_bucket", "route"), "{{route}}")],
            Text(
                "Normally below 0.2 s. A request that waits for the agent takes as long as its caller asked for.",
                "GatewayDown",
            ),
            unit=SECONDS,
        ),
        graph(
            "Requests rejected for a fault",
            [
                Series(
                    per_minute(
                        f'{GATEWAY}requests_rejected_total{{reason=~"Internal|LiveKit.*|NotReady|OwnerUnreachable|CredentialsMissing"}}',
                        "reason",
                    ),
                    "{{reason}}",
                )
            ],
            Text(
                "Requests that failed for a fault of the installation, not of the caller. Normally 0.",
                "GatewayDown",
            ),
            unit=PER_MINUTE,
            bars=True,
        ),
        graph(
            "LiveKit requests by code",
            [Series(per_minute(f"{_LIVEKIT}_count", "code"), "{{code}}")],
            Text(
                "Almost all are `ok`. `unreachable` means that LiveKit does not answer, `unauthenticated` a wrong key.",
                "GatewayDown",
            ),
            unit=PER_MINUTE,
            width=12,
        ),
        graph(
            "LiveKit request duration, p95",
            [Series(quantile(0.95, f"{_LIVEKIT}_bucket", "method"), "{{method}}")],
            Text("Normally below 0.2 s. Every call needs several requests, one after the other.", "GatewayDown"),
            unit=SECONDS,
            width=12,
        ),
        graph(
            "Gateways and the agents they own",
            [
                Series(f"min({GATEWAY}members)", "gateways"),
                Series(f"sum({GATEWAY}owned_agents)", "agents with an owner"),
            ],
            Text(
                "Gateways that all gateways know, and agents whose calls one of them follows. For some seconds after a "
                "gateway is lost, its agents have no owner.",
                "GatewayDown",
            ),
            width=12,
        ),
        graph(
            "Attempts to forward a request",
            [Series(per_minute(f"{GATEWAY}forwarded_requests_total", "result"), "{{result}}")],
            Text(
                "Requests that reached another gateway than the owner of their agent. Almost all are `answered`. "
                "`failed` means that the client got 503.",
                "GatewayDown",
            ),
            unit=PER_MINUTE,
            width=12,
        ),
    ]


def _processes() -> Panels:
    """Return the panels of all scraped processes."""
    lag = [
        Series(quantile(0.99, f"{prefix}event_loop_lag_seconds_bucket"), name)
        for prefix, name in ((CONTROLLER, "controller"), (GATEWAY, "gateway"), (WORKER, "worker"))
    ]
    return [
        graph(
            "Event loop lag, p99",
            lag,
            Text(
                "How late the event loop runs a timer. Normally below 0.05 s. More means too little CPU, or code "
                "that blocks the loop.",
                "ControllerStuck",
            ),
            unit=SECONDS,
            steps=[(0.25, YELLOW), (1, RED)],
        ),
        graph(
            "CPU by process",
            [Series(f"rate(process_cpu_seconds_total{{{JOBS}}}[$__rate_interval])", "{{pod}}")],
            Text(
                "Of each main process. The controller needs less than 0.02 cores while nothing changes.",
                no_runbook="no alert watches CPU. The event loop lag shows when it is too little.",
            ),
            unit=CORES,
        ),
        graph(
            "Memory by process",
            [Series(f"process_resident_memory_bytes{{{JOBS}}}", "{{pod}}")],
            Text(
                "Resident memory of each main process. It stays level, and below the limit of the pod.",
                no_runbook="no alert watches memory. Compare with the limits in the chart's values.",
            ),
            unit=BYTES,
        ),
        graph(
            "Processes scraped",
            [Series(f"sum by (job) (up{{{JOBS}}})", "{{job}}")],
            Text("As many as pods run.", "GatewayDown"),
        ),
        graph(
            "Scrape duration",
            [Series(f"max by (job) (scrape_duration_seconds{{{JOBS}}})", "{{job}}")],
            Text(
                "The slowest scrape of each job. Below 1 s even with 1,000 agents.",
                no_runbook="no alert watches scrapes. The figure at the top counts those that fail.",
            ),
            unit=SECONDS,
            steps=[(1, RED)],
        ),
        graph(
            "Workers scraped, by agent",
            [
                Series(
                    f'sum by (agent_namespace, agent) (up{{job="avatar-agent-worker",{AGENT}}})',
                    "{{agent_namespace}}/{{agent}}",
                )
            ],
            Text(
                "The only panel here that the variables narrow. As many as the agent has workers; fewer mean that "
                "a NetworkPolicy keeps Prometheus out.",
                "WorkersNotRegistered",
            ),
        ),
    ]


def render() -> str:
    """Return the dashboard's JSON."""
    return build(
        UID,
        "Operator",
        "Does the machinery work? Controllers, gateway, LiveKit, the API server and all scraped processes.",
        [
            ("", _answers()),
            ("Controller", _controller()),
            ("Gateway and LiveKit", _gateway()),
            ("Processes", _processes()),
        ],
    )
