//! What the recorded objects do not show. Expectations follow the rules of Prometheus 3.16 (`discovery/kubernetes`).

use serde_json::{Value, json};

use crate::api_server::ApiServer;
use crate::support::{Consumer, options};

async fn targets(objects: &[(&str, Value)], yaml: &str, source: &str, prefix: &str) -> Vec<String> {
    let server = ApiServer::start().await;
    for (plural, object) in objects {
        server.put(plural, object.clone());
    }
    let yaml = format!("{yaml}, api_server: '{}'", server.url);
    let mut consumer = Consumer::run(&[("job", yaml)], options());
    consumer
        .until("a result", |consumer| {
            let status = consumer.status();
            status.last_success.is_some() && status.groups == consumer.groups.len()
        })
        .await;
    consumer.labels(source, prefix)
}

#[tokio::test]
async fn pods() {
    let web = json!({
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "u",
            "labels": { "a.b": "first", "a_b": "last", "Ünï": "x" },
            "ownerReferences": [
                { "kind": "Other", "name": "no" },
                { "kind": "Job", "name": "nightly-1", "controller": true },
            ],
        },
        "spec": {
            "nodeName": "n1",
            "containers": [
                { "name": "one", "image": "i", "ports": [
                    { "name": "http", "containerPort": 80, "protocol": "TCP" },
                    { "containerPort": 53, "protocol": "UDP" },
                ] },
                { "name": "two", "image": "j", "ports": null },
            ],
            "initContainers": [{ "name": "zero", "image": "k" }],
        },
        "status": {
            "podIP": "fd00::1", "phase": "Running",
            "initContainerStatuses": [{ "name": "zero", "containerID": "containerd://z" }],
        },
    });
    let job = json!({ "metadata": {
        "name": "nightly-1", "namespace": "shop",
        "ownerReferences": [{ "kind": "CronJob", "name": "nightly", "controller": true }],
    } });
    let objects = [("pods", web), ("jobs", job)];
    let of = async |yaml: &str, prefix: &str| targets(&objects, yaml, "pod/shop/web", prefix).await;
    // Without a port an IPv6 address has no brackets.
    assert_eq!(
        of("role: pod", "__address__").await,
        ["=[fd00::1]:80", "=[fd00::1]:53", "=fd00::1", "=fd00::1"]
    );
    assert_eq!(
        of("role: pod", "__meta_kubernetes_pod_container_").await,
        [
            "image=i,init=false,name=one,port_name=http,port_number=80,port_protocol=TCP",
            "image=i,init=false,name=one,port_number=53,port_protocol=UDP",
            "image=j,init=false,name=two",
            "id=containerd://z,image=k,init=true,name=zero",
        ]
    );
    // Of two labels that become one, the last by name counts.
    assert_eq!(
        of("role: pod", "__meta_kubernetes_pod_label").await[0],
        "__n_=x,_a_b=last,present__n_=true,present_a_b=true"
    );
    let attach = "role: pod, attach_metadata: {job: true, cronjob: true}";
    for (yaml, prefix, labels) in [
        ("role: pod", "__meta_kubernetes_pod_ready", "=unknown"),
        ("role: pod", "__meta_kubernetes_pod_controller_", "kind=Job,name=nightly-1"),
        ("role: pod", "__meta_kubernetes_pod_job", ""),
        (attach, "__meta_kubernetes_pod_job", "_name=nightly-1"),
        (attach, "__meta_kubernetes_pod_cronjob", "_name=nightly"),
    ] {
        assert_eq!(of(yaml, prefix).await[0], labels, "{prefix}");
    }
    // The node is not known: that is how selectors of nodes choose pods.
    assert_eq!(of("role: pod, attach_metadata: {node: true}", "").await.len(), 0);
}

#[tokio::test]
async fn services() {
    let service = |spec: Value, status: Value| {
        let metadata = json!({ "name": "web", "namespace": "shop" });
        json!({ "metadata": metadata, "spec": spec, "status": status })
    };
    let ports = json!([{ "name": "http", "port": 80, "protocol": "TCP" }]);
    for (spec, status, labels) in [
        (
            json!({ "type": "LoadBalancer", "clusterIP": "10.0.0.1", "loadBalancerIP": "1.1.1.1", "ports": ports }),
            json!({ "loadBalancer": { "ingress": [{ "ip": "2.2.2.2" }, { "hostname": "h" }, { "ip": "3.3.3.3" }] } }),
            "cluster_ip=10.0.0.1,loadbalancer_ip=2.2.2.2,3.3.3.3,name=web,port_name=http,port_number=80,\
             port_protocol=TCP,type=LoadBalancer",
        ),
        (
            json!({ "type": "LoadBalancer", "loadBalancerIP": "1.1.1.1", "ports": ports }),
            json!({}),
            "loadbalancer_ip=1.1.1.1,name=web,port_name=http,port_number=80,port_protocol=TCP,type=LoadBalancer",
        ),
        (
            json!({ "type": "ExternalName", "externalName": "db.example.com", "ports": ports }),
            json!({}),
            "external_name=db.example.com,name=web,port_name=http,port_number=80,port_protocol=TCP,type=ExternalName",
        ),
    ] {
        let objects = [("services", service(spec, status))];
        let found = targets(&objects, "role: service", "svc/shop/web", "__meta_kubernetes_service_").await;
        assert_eq!(found, [labels]);
    }
}

#[tokio::test]
async fn nodes() {
    let node = |addresses: Value| {
        json!({
            "metadata": { "name": "n1" },
            "spec": {},
            "status": {
                "addresses": addresses,
                "conditions": [{ "type": "Disk-Pressure", "status": "Unknown" }],
            },
        })
    };
    let address = |kind: &str, address: &str| json!({ "type": kind, "address": address });
    for (addresses, expected) in [
        (
            json!([address("Hostname", "h"), address("InternalIP", "::1"), address("InternalIP", "2")]),
            "=[::1]:0",
        ),
        (json!([address("Hostname", "h"), address("InternalDNS", "d")]), "=d:0"),
        (json!([address("ExternalDNS", "d"), address("ExternalIP", "1.1.1.1")]), "=1.1.1.1:0"),
        (json!([address("Hostname", "h"), address("LegacyHostIP", "1")]), "=1:0"),
        (json!([address("Hostname", "h")]), "=h:0"),
    ] {
        let objects = [("nodes", node(addresses))];
        assert_eq!(targets(&objects, "role: node", "node/n1", "__address__").await, [expected]);
    }
    let two = [("nodes", node(json!([address("InternalIP", "1"), address("InternalIP", "2")])))];
    let found = targets(&two, "role: node", "node/n1", "__meta_kubernetes_node_").await;
    assert_eq!(found, ["address_InternalIP=1,condition_disk_pressure=unknown,name=n1"]);
    // Without an address there is nothing to say.
    assert!(targets(&[("nodes", node(json!(null)))], "role: node", "node/n1", "").await.is_empty());
}

#[tokio::test]
async fn ingresses() {
    let ingress = json!({
        "metadata": { "name": "web", "namespace": "shop" },
        "spec": {
            "tls": [{ "hosts": ["*.example.com"] }, { "hosts": null }, {}],
            "rules": [
                { "host": "a.example.com", "http": { "paths": [{ "path": "/x" }, { "path": "" }, {}] } },
                { "host": "example.com" },
                { "host": "a.b.example.com", "http": {} },
                { "host": "a.b.example.com" },
                { "http": { "paths": [{ "path": "/y" }] } },
            ],
        },
    });
    let objects = [("ingresses", ingress)];
    let found = targets(&objects, "role: ingress", "ingress/shop/web", "__meta_kubernetes_ingress_").await;
    assert_eq!(
        found,
        [
            "host=a.example.com,name=web,path=/x,scheme=https",
            "host=a.example.com,name=web,path=/,scheme=https",
            "host=a.example.com,name=web,path=/,scheme=https",
            "host=example.com,name=web,path=/,scheme=http",
            "host=a.b.example.com,name=web,path=/,scheme=http",
            "name=web,path=/y,scheme=http",
        ]
    );
}

#[tokio::test]
async fn slices() {
    let slice = json!({
        "metadata": { "name": "web-1", "namespace": "shop", "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": "IPv6",
        "ports": [{ "port": 80 }, { "name": "any" }],
        "endpoints": [
            {
                "addresses": ["fd00::1", "fd00::2"],
                "conditions": { "terminating": true },
                "targetRef": { "kind": "Node", "name": "n1" },
                "nodeName": "n2",
                "deprecatedTopology": { "kubernetes.io/hostname": "h" },
            },
            { "addresses": null, "conditions": {} },
        ],
    });
    let node = |name: &str| {
        let metadata = json!({ "name": name, "labels": { "is": name } });
        json!({ "metadata": metadata, "status": { "addresses": null } })
    };
    let service = |policy: Value| {
        let spec = json!({ "ipFamilyPolicy": policy, "ipFamilies": ["IPv4", "IPv6"], "ports": null });
        json!({ "metadata": { "name": "web", "namespace": "shop" }, "spec": spec })
    };
    let objects = |policy: Value| {
        [
            ("endpointslices", slice.clone()),
            ("nodes", node("n1")),
            ("nodes", node("n2")),
            ("services", service(policy)),
        ]
    };
    let source = "endpointslice/shop/web-1";
    let yaml = "role: endpointslice, attach_metadata: {node: true}";
    let one = objects(json!("SingleStack"));
    assert_eq!(
        targets(&one, yaml, source, "__address__").await,
        ["=[fd00::1]:80", "=[fd00::2]:80", "=fd00::1", "=fd00::2"]
    );
    assert_eq!(
        targets(&one, yaml, source, "__meta_kubernetes_endpointslice_endpoint_").await[0],
        "conditions_terminating=true,node_name=n2,topology_kubernetes_io_hostname=h,\
         topology_present_kubernetes_io_hostname=true"
    );
    // What an address belongs to wins over where it is.
    assert_eq!(targets(&one, yaml, source, "__meta_kubernetes_node_label_").await[0], "is=n1");
    // The other family's slice has the same pods.
    for policy in ["PreferDualStack", "RequireDualStack"] {
        assert!(targets(&objects(json!(policy)), yaml, source, "").await.is_empty(), "{policy}");
    }
}

#[tokio::test]
async fn endpoints() {
    let endpoints = json!({
        "metadata": { "name": "web", "namespace": "shop" },
        "subsets": [
            {
                "addresses": [
                    { "ip": "10.0.0.1", "hostname": "h", "targetRef": { "kind": "Node", "name": "n1" } },
                    { "ip": "10.0.0.2", "nodeName": "n2", "targetRef": { "kind": "Pod", "namespace": "shop", "name": "w" } },
                ],
                "ports": [{ "name": "http", "port": 80, "protocol": "UDP" }],
            },
            { "addresses": null, "ports": null },
        ],
    });
    let node = |name: &str| json!({ "metadata": { "name": name, "labels": { "is": name } } });
    let pod = json!({
        "metadata": { "name": "w", "namespace": "shop" },
        "spec": {
            "nodeName": "n2",
            "containers": [
                { "name": "a", "image": "i", "ports": [{ "containerPort": 80, "name": "web", "protocol": "TCP" }] },
                { "name": "b", "image": "j", "ports": [{ "containerPort": 81, "protocol": "TCP" }] },
            ],
        },
        "status": { "podIP": "10.0.0.9" },
    });
    let objects = [("endpoints", endpoints), ("nodes", node("n1")), ("nodes", node("n2")), ("pods", pod)];
    let yaml = "role: endpoints, attach_metadata: {node: true}";
    let of = async |prefix: &str| targets(&objects, yaml, "endpoints/shop/web", prefix).await;
    assert_eq!(of("__address__").await, ["=10.0.0.1:80", "=10.0.0.2:80", "=10.0.0.9:81"]);
    assert_eq!(of("__meta_kubernetes_node_label_").await, ["is=n1", "is=n2", ""]);
    assert_eq!(
        of("__meta_kubernetes_endpoint_").await,
        [
            "address_target_kind=Node,address_target_name=n1,hostname=h,port_name=http,port_protocol=UDP,ready=true",
            "address_target_kind=Pod,address_target_name=w,node_name=n2,port_name=http,port_protocol=UDP,ready=true",
            "",
        ]
    );
    // The protocol is the endpoint's, not the container's.
    assert_eq!(
        of("__meta_kubernetes_pod_container_").await,
        [
            "",
            "image=i,init=false,name=a,port_name=web,port_number=80,port_protocol=UDP",
            "image=j,init=false,name=b,port_number=81,port_protocol=TCP",
        ]
    );
}
