// Dispatches an agent as a back end in Node.js does: with LiveKit's official server SDK.
// usage: node dispatch.mjs ROOM AGENT_NAME METADATA, with LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET set
import { AgentDispatchClient } from "livekit-server-sdk";

const { LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET } = process.env;
const [room, agentName, metadata] = process.argv.slice(2);
const client = new AgentDispatchClient(LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET);
const dispatch = await client.createDispatch(room, agentName, { metadata });
console.log(JSON.stringify({ id: dispatch.id, room: dispatch.room, agentName: dispatch.agentName }));
