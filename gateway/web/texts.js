// Every sentence of the page, in both languages. Keys under `reasons` are the gateway's constants.

const en = {
  title: "Call",
  languageLabel: "Language",
  stageLabel: "The agent",
  controlsLabel: "Call controls",
  captionsLabel: "Live captions",
  lead: "Talk to the agent. You hear it and read along; you need a microphone.",
  nameLabel: "Your name",
  nameMissing: "Please write your name first.",
  start: "Start call",
  microphoneHint: "Your browser will ask to use the microphone.",
  mute: "Mute",
  unmute: "Unmute",
  hangUp: "Hang up",
  enableSound: "Turn sound on",
  again: "Call again",
  you: "You",
  agent: "Agent",
  waitingAt: (position) =>
    position > 1 ? `All agents are busy. You are number ${position} in line.` : "All agents are busy. You are next in line.",
  states: {
    idle: "",
    connecting: "Connecting…",
    waiting: "All agents are busy. Please wait…",
    joining: "The agent is joining…",
    connected: "Connected",
    reconnecting: "The connection was lost. Reconnecting…",
    ended: "The call is over.",
    failed: "The call did not work.",
  },
  agentStates: { listening: "Listening", thinking: "Thinking…", speaking: "Speaking" },
  reasons: {
    NoFreeSlot: "All agents are busy. Please try again in a few minutes.",
    NotAnswered: "No agent answered. Please try again later.",
    AgentDidNotJoin: "The agent could not join the call. Please try again.",
    AgentLost: "The agent was lost during the call. Please call again.",
    TooLong: "The call reached its longest duration.",
    CallerLeft: "You left the call.",
    CallerNeverCame: "Your browser did not connect in time. Please try again.",
    HungUp: "The call is over.",
    Finished: "The call is over.",
    TooManyPending: "Too many people are waiting. Please try again in a few minutes.",
    RateLimited: "Too many calls from your network. Please try again in a minute.",
    AgentNotFound: "There is no agent of this name. Check the address of this page.",
    AgentMissing: "The address of this page names no agent: add ?agent=NAME to it.",
    AgentAutomatic: "This agent takes no calls from this page.",
    Unauthorized: "This agent is not open to callers from this page.",
    OriginNotAllowed: "This page may not call this agent.",
    MicrophoneRefused: "The microphone was not allowed. Allow it in the address bar of your browser, then call again.",
    MicrophoneMissing: "No microphone was found. Connect one, then call again.",
    InsecureContext: "Your browser gives the microphone only to pages opened with https:// or on localhost.",
    ConnectionLost: "The connection to the call was lost. Please call again.",
    Other: "Something went wrong. Please try again.",
  },
};

const ar = {
  title: "مكالمة",
  languageLabel: "اللغة",
  stageLabel: "المساعد",
  controlsLabel: "أزرار المكالمة",
  captionsLabel: "نص المكالمة",
  lead: "تحدّث مع المساعد: تسمعه وتقرأ كلامه مباشرة، وتحتاج إلى ميكروفون.",
  nameLabel: "اسمك",
  nameMissing: "من فضلك اكتب اسمك أولاً.",
  start: "ابدأ المكالمة",
  microphoneHint: "سيطلب المتصفح الإذن باستخدام الميكروفون.",
  mute: "كتم الصوت",
  unmute: "إلغاء الكتم",
  hangUp: "إنهاء المكالمة",
  enableSound: "تشغيل الصوت",
  again: "اتصل مرة أخرى",
  you: "أنت",
  agent: "المساعد",
  waitingAt: (position) =>
    position > 1
      ? `جميع المساعدين مشغولون. رقمك في الانتظار: ${new Intl.NumberFormat("ar").format(position)}.`
      : "جميع المساعدين مشغولون. أنت التالي.",
  states: {
    idle: "",
    connecting: "جارٍ الاتصال…",
    waiting: "جميع المساعدين مشغولون. يرجى الانتظار…",
    joining: "المساعد ينضم إلى المكالمة…",
    connected: "متصل",
    reconnecting: "انقطع الاتصال. جارٍ إعادة الاتصال…",
    ended: "انتهت المكالمة.",
    failed: "لم تنجح المكالمة.",
  },
  agentStates: { listening: "يستمع", thinking: "يفكّر…", speaking: "يتحدث" },
  reasons: {
    NoFreeSlot: "جميع المساعدين مشغولون. حاول مرة أخرى بعد دقائق.",
    NotAnswered: "لم يُجب أي مساعد. حاول مرة أخرى لاحقاً.",
    AgentDidNotJoin: "لم يتمكن المساعد من الانضمام. حاول مرة أخرى.",
    AgentLost: "انقطع المساعد أثناء المكالمة. اتصل مرة أخرى.",
    TooLong: "بلغت المكالمة أطول مدة مسموح بها.",
    CallerLeft: "غادرت المكالمة.",
    CallerNeverCame: "لم يتصل متصفحك في الوقت المناسب. حاول مرة أخرى.",
    HungUp: "انتهت المكالمة.",
    Finished: "انتهت المكالمة.",
    TooManyPending: "عدد المنتظرين كبير. حاول مرة أخرى بعد دقائق.",
    RateLimited: "مكالمات كثيرة من شبكتك. حاول مرة أخرى بعد دقيقة.",
    AgentNotFound: "لا يوجد مساعد بهذا الاسم. تحقق من عنوان الصفحة.",
    AgentMissing: "لا يذكر عنوان الصفحة أي مساعد: أضف إليه ‎?agent=NAME‎.",
    AgentAutomatic: "لا يستقبل هذا المساعد مكالمات من هذه الصفحة.",
    Unauthorized: "هذا المساعد غير متاح للمتصلين من هذه الصفحة.",
    OriginNotAllowed: "لا يمكن لهذه الصفحة الاتصال بهذا المساعد.",
    MicrophoneRefused: "لم يُسمح باستخدام الميكروفون. اسمح به من شريط العنوان في المتصفح ثم اتصل مرة أخرى.",
    MicrophoneMissing: "لم يُعثر على ميكروفون. وصّل واحداً ثم اتصل مرة أخرى.",
    InsecureContext: "لا يتيح المتصفح الميكروفون إلا للصفحات المفتوحة عبر ‎https://‎ أو على localhost.",
    ConnectionLost: "انقطع الاتصال بالمكالمة. اتصل مرة أخرى.",
    Other: "حدث خطأ ما. حاول مرة أخرى.",
  },
};

export const texts = { ar, en };
export const directions = { ar: "rtl", en: "ltr" };

/** The page's language for a wish such as `ar-EG`; undefined when it speaks no such language. */
export function supported(wish) {
  const primary = (wish ?? "").toLowerCase().split("-")[0];
  return primary in texts ? primary : undefined;
}
