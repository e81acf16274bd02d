// A page as LiveKit's React starter app has it: useSession asks TOKEN_URL for a token, and a button starts the call.
import {
  RoomAudioRenderer,
  SessionProvider,
  useAgent,
  useSession,
  useSessionContext,
  useSessionMessages,
} from "@livekit/components-react";
import { TokenSource } from "livekit-client";
import { createRoot } from "react-dom/client";

const source = TokenSource.endpoint(TOKEN_URL);

function Call() {
  const { start } = useSessionContext();
  const { messages } = useSessionMessages();
  return (
    <>
      <button onClick={() => start()}>Start call</button>
      <p id="state">{useAgent().state}</p>
      <p id="captions">{messages.map(({ message }) => message).join(" ")}</p>
    </>
  );
}

function App() {
  const session = useSession(source, {
    agentName: AGENT_NAME,
    agentMetadata: '{"language": "ar"}',
    participantName: "Layla",
  });
  return (
    <SessionProvider session={session}>
      <Call />
      <RoomAudioRenderer />
    </SessionProvider>
  );
}

createRoot(document.getElementById("root")).render(<App />);
