"""The Kubernetes API for controller and gateway: a client for plain JSON documents, and an informer on top of it.

`kubernetes` 37.0.2 brings clients and an informer of its own. Transport, TLS and authentication are taken from
`kubernetes.aio`. The other parts do not serve, for these reasons:

- Typed API methods (`aio/client/api/`): they build a pydantic model from every response, field by field. The project
  reads a few fields of each object and keeps fields that this version's models do not know.
- Dynamic client (`aio/dynamic/`):

  - `DynamicClient.request` sends a fixed list of query parameters, and `allowWatchBookmarks` is not one of them.
    Without bookmarks a client cannot distinguish a quiet watch from a dead one, and its resource version ages until
    the API server rejects it with 410.
  - `server_side_apply` sends ``application/apply-patch+yaml`` without a character set, so `aio/client/rest.py` encodes
    the body with `json.dumps`. That writes an emoji as a surrogate pair, which YAML does not define.
  - Creating one sends discovery requests and reads and writes a cache file in the temporary folder with blocking calls
    (`discovery.py`). The kinds in use are known, see `kube.kinds`.

- Watch (`aio/watch/watch.py`): without `timeout_seconds` it reconnects in a loop without any delay. Neither it nor its
  caller learns when the server accepted the request, so liveness cannot be judged on a quiet cluster.
- Informer (`informer/informer.py`): there is none in `kubernetes.aio`. The `SharedInformer` runs in a thread on the
  synchronous client. It lists without pages and does not request bookmarks. After a broken watch it reconnects without
  any delay. Its cache holds whole objects and ignores their versions, so that the response to a write cannot be added
  without the risk that an older event replaces it.
"""
