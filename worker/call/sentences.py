"""The sentences that every agent has beside its greeting, in every language that an agent is likely to speak.

They are data, spoken as they stand. A worker synthesises them at start, so they can be heard while a provider fails
(worker/call/phrases.py). A sentence names no gender where the language allows it, because the caller is unknown.
"""
# ruff: noqa: RUF001 - letters of other scripts look like Latin ones to a linter.

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agentspec.languages import primary


@dataclass(frozen=True, kw_only=True)
class Sentences:
    """The sentences of one language."""

    apology: str
    """A turn failed, and the caller should repeat what they said."""
    one_moment: str
    """The reply takes longer than usual."""
    line_interrupted: str
    """The agent of a rescue continues the conversation of the lost one."""
    still_there: str
    """The caller has said nothing for long."""
    goodbye: str
    """The agent ends the call."""
    one_minute_left: str
    """The call reaches its longest duration in a minute."""

    def by_importance(self) -> tuple[str, ...]:
        """Return all sentences; the ones that a caller would miss most come first."""
        return (
            self.apology,
            self.one_moment,
            self.line_interrupted,
            self.one_minute_left,
            self.still_there,
            self.goodbye,
        )


def for_language(language: str) -> Sentences:
    """Return the sentences of a BCP 47 language; English where no translation exists."""
    return TRANSLATIONS.get(primary(language), TRANSLATIONS["en"])


TRANSLATIONS: Final[Mapping[str, Sentences]] = {
    "ar": Sentences(
        apology="عذراً، حدث خلل تقني. هل يمكنك أن تعيد ما قلت؟",
        one_moment="لحظة من فضلك.",
        line_interrupted="عذراً، انقطع الخط للحظة. لنتابع حديثنا.",
        still_there="هل ما زلت على الخط؟",
        goodbye="شكراً لاتصالك. مع السلامة.",
        one_minute_left="تنتهي هذه المكالمة بعد دقيقة واحدة.",
    ),
    "cs": Sentences(
        apology="Omlouvám se, došlo k technické chybě. Můžete to prosím zopakovat?",
        one_moment="Okamžik, prosím.",
        line_interrupted="Omlouvám se, spojení se přerušilo. Pokračujme.",
        still_there="Jste stále na lince?",
        goodbye="Děkuji za zavolání. Na shledanou.",
        one_minute_left="Tento hovor za minutu skončí.",
    ),
    "da": Sentences(
        apology="Beklager, der gik noget galt hos mig. Kan du sige det igen?",
        one_moment="Et øjeblik.",
        line_interrupted="Beklager, forbindelsen blev afbrudt. Lad os fortsætte.",
        still_there="Er du der stadig?",
        goodbye="Tak for opkaldet. Farvel.",
        one_minute_left="Samtalen slutter om et minut.",
    ),
    "de": Sentences(
        apology="Entschuldigung, bei mir ist etwas schiefgegangen. Könnten Sie das bitte noch einmal sagen?",
        one_moment="Einen Moment, bitte.",
        line_interrupted="Entschuldigung, die Verbindung war unterbrochen. Machen wir weiter.",
        still_there="Sind Sie noch da?",
        goodbye="Vielen Dank für Ihren Anruf. Auf Wiederhören.",
        one_minute_left="Dieses Gespräch endet in einer Minute.",
    ),
    "el": Sentences(
        apology="Συγγνώμη, παρουσιάστηκε ένα τεχνικό πρόβλημα. Μπορείτε να το επαναλάβετε;",
        one_moment="Μια στιγμή, παρακαλώ.",
        line_interrupted="Συγγνώμη, η γραμμή διακόπηκε. Ας συνεχίσουμε.",
        still_there="Είστε ακόμα στη γραμμή;",
        goodbye="Σας ευχαριστώ που καλέσατε. Γεια σας.",
        one_minute_left="Αυτή η κλήση τελειώνει σε ένα λεπτό.",
    ),
    "en": Sentences(
        apology="Sorry, something went wrong on my side. Could you say that again?",
        one_moment="One moment, please.",
        line_interrupted="Sorry, the line was interrupted. Let's continue.",
        still_there="Are you still there?",
        goodbye="Thank you for calling. Goodbye.",
        one_minute_left="This call ends in one minute.",
    ),
    "es": Sentences(
        apology="Disculpe, ha habido un problema técnico. ¿Podría repetirlo, por favor?",
        one_moment="Un momento, por favor.",
        line_interrupted="Disculpe, se ha cortado la línea. Continuemos.",
        still_there="¿Sigue ahí?",
        goodbye="Gracias por su llamada. Hasta luego.",
        one_minute_left="Esta llamada termina dentro de un minuto.",
    ),
    "fa": Sentences(
        apology="ببخشید، مشکلی فنی پیش آمد. ممکن است دوباره بفرمایید؟",
        one_moment="یک لحظه لطفاً.",
        line_interrupted="ببخشید، ارتباط قطع شد. ادامه می‌دهیم.",
        still_there="هنوز پشت خط هستید؟",
        goodbye="از تماستان سپاسگزارم. خدانگهدار.",
        one_minute_left="این تماس یک دقیقهٔ دیگر پایان می‌یابد.",
    ),
    "fi": Sentences(
        apology="Anteeksi, jokin meni vikaan. Voisitteko toistaa?",
        one_moment="Hetkinen vain.",
        line_interrupted="Anteeksi, yhteys katkesi. Jatketaan.",
        still_there="Oletteko vielä linjalla?",
        goodbye="Kiitos soitosta. Kuulemiin.",
        one_minute_left="Tämä puhelu päättyy minuutin kuluttua.",
    ),
    "fr": Sentences(
        apology="Excusez-moi, il y a eu un problème technique. Pourriez-vous répéter, s'il vous plaît ?",
        one_moment="Un instant, s'il vous plaît.",
        line_interrupted="Excusez-moi, la ligne a été coupée. Continuons.",
        still_there="Êtes-vous toujours là ?",
        goodbye="Merci de votre appel. Au revoir.",
        one_minute_left="Cet appel se termine dans une minute.",
    ),
    "he": Sentences(
        apology="סליחה, אירעה תקלה. אפשר לחזור על זה?",
        one_moment="רגע אחד, בבקשה.",
        line_interrupted="סליחה, הקו נותק לרגע. אפשר להמשיך.",
        still_there="עדיין על הקו?",
        goodbye="תודה על השיחה. להתראות.",
        one_minute_left="השיחה תסתיים בעוד דקה.",
    ),
    "hi": Sentences(
        apology="क्षमा करें, मेरी ओर से कुछ गड़बड़ हो गई। कृपया अपनी बात फिर से कहें।",
        one_moment="कृपया एक क्षण रुकिए।",
        line_interrupted="क्षमा करें, लाइन कट गई थी। आइए, आगे बढ़ते हैं।",
        still_there="क्या आप अभी भी लाइन पर हैं?",
        goodbye="कॉल करने के लिए धन्यवाद। नमस्ते।",
        one_minute_left="यह कॉल एक मिनट में समाप्त हो जाएगी।",
    ),
    "hu": Sentences(
        apology="Elnézést, technikai hiba történt. Megismételné, kérem?",
        one_moment="Egy pillanat, kérem.",
        line_interrupted="Elnézést, megszakadt a vonal. Folytassuk.",
        still_there="Itt van még?",
        goodbye="Köszönöm a hívását. Viszonthallásra.",
        one_minute_left="Ez a hívás egy perc múlva véget ér.",
    ),
    "id": Sentences(
        apology="Maaf, terjadi gangguan di pihak saya. Bisakah Anda mengulanginya?",
        one_moment="Mohon tunggu sebentar.",
        line_interrupted="Maaf, sambungan tadi terputus. Mari kita lanjutkan.",
        still_there="Apakah Anda masih di sana?",
        goodbye="Terima kasih telah menelepon. Sampai jumpa.",
        one_minute_left="Panggilan ini akan berakhir dalam satu menit.",
    ),
    "it": Sentences(
        apology="Mi scusi, c'è stato un problema tecnico. Potrebbe ripetere, per favore?",
        one_moment="Un momento, per favore.",
        line_interrupted="Mi scusi, è caduta la linea. Continuiamo pure.",
        still_there="È ancora in linea?",
        goodbye="Grazie per la chiamata. Arrivederci.",
        one_minute_left="Questa chiamata terminerà tra un minuto.",
    ),
    "ja": Sentences(
        apology="申し訳ありません、こちらで問題が発生しました。もう一度おっしゃっていただけますか。",
        one_moment="少々お待ちください。",
        line_interrupted="申し訳ありません、回線が途切れました。お話を続けましょう。",
        still_there="まだお電話口にいらっしゃいますか。",
        goodbye="お電話ありがとうございました。失礼いたします。",
        one_minute_left="この通話はあと一分で終了します。",
    ),
    "ko": Sentences(
        apology="죄송합니다. 제 쪽에 문제가 생겼습니다. 다시 한번 말씀해 주시겠어요?",
        one_moment="잠시만 기다려 주세요.",
        line_interrupted="죄송합니다. 연결이 잠시 끊겼습니다. 이어서 계속하겠습니다.",
        still_there="아직 듣고 계신가요?",
        goodbye="전화해 주셔서 감사합니다. 안녕히 계세요.",
        one_minute_left="이 통화는 일 분 후에 종료됩니다.",
    ),
    "nl": Sentences(
        apology="Sorry, er ging iets mis aan mijn kant. Kunt u dat nog eens zeggen?",
        one_moment="Een ogenblik, alstublieft.",
        line_interrupted="Sorry, de lijn viel even weg. Laten we verdergaan.",
        still_there="Bent u er nog?",
        goodbye="Bedankt voor het bellen. Tot ziens.",
        one_minute_left="Dit gesprek eindigt over één minuut.",
    ),
    "no": Sentences(
        apology="Beklager, noe gikk galt hos meg. Kan du si det en gang til?",
        one_moment="Et øyeblikk.",
        line_interrupted="Beklager, forbindelsen ble brutt. La oss fortsette.",
        still_there="Er du der fortsatt?",
        goodbye="Takk for samtalen. Ha det bra.",
        one_minute_left="Samtalen avsluttes om ett minutt.",
    ),
    "pl": Sentences(
        apology="Przepraszam, wystąpił problem techniczny. Czy można prosić o powtórzenie?",
        one_moment="Chwileczkę.",
        line_interrupted="Przepraszam, połączenie zostało przerwane. Możemy kontynuować.",
        still_there="Halo, czy nadal mnie słychać?",
        goodbye="Dziękuję za rozmowę. Do widzenia.",
        one_minute_left="Ta rozmowa zakończy się za minutę.",
    ),
    "pt": Sentences(
        apology="Desculpe, houve um problema técnico. Poderia repetir, por favor?",
        one_moment="Um momento, por favor.",
        line_interrupted="Desculpe, a ligação foi interrompida. Vamos continuar.",
        still_there="Ainda está aí?",
        goodbye="Agradeço a sua chamada. Até logo.",
        one_minute_left="Esta chamada termina dentro de um minuto.",
    ),
    "ro": Sentences(
        apology="Îmi cer scuze, a apărut o problemă tehnică. Puteți repeta, vă rog?",
        one_moment="Un moment, vă rog.",
        line_interrupted="Îmi cer scuze, legătura s-a întrerupt. Să continuăm.",
        still_there="Mai sunteți pe fir?",
        goodbye="Vă mulțumesc pentru apel. La revedere.",
        one_minute_left="Acest apel se încheie peste un minut.",
    ),
    "ru": Sentences(
        apology="Извините, произошла техническая ошибка. Повторите, пожалуйста.",
        one_moment="Секунду, пожалуйста.",
        line_interrupted="Извините, связь прервалась. Давайте продолжим.",
        still_there="Вы ещё на линии?",
        goodbye="Спасибо за звонок. До свидания.",
        one_minute_left="Этот звонок закончится через минуту.",
    ),
    "sv": Sentences(
        apology="Förlåt, något gick fel hos mig. Kan du säga det igen?",
        one_moment="Ett ögonblick.",
        line_interrupted="Förlåt, linjen bröts. Vi fortsätter.",
        still_there="Är du kvar?",
        goodbye="Tack för samtalet. Hej då.",
        one_minute_left="Samtalet avslutas om en minut.",
    ),
    "th": Sentences(
        apology="ขออภัย เกิดข้อผิดพลาดทางเทคนิค กรุณาพูดอีกครั้ง",
        one_moment="กรุณารอสักครู่",
        line_interrupted="ขออภัย สายขาดไปชั่วครู่ ขอคุยต่อ",
        still_there="ยังอยู่ในสายไหม",
        goodbye="ขอบคุณที่โทรมา สวัสดี",
        one_minute_left="สายนี้จะสิ้นสุดในอีกหนึ่งนาที",
    ),
    "tr": Sentences(
        apology="Özür dilerim, bir sorun oluştu. Tekrar söyler misiniz?",
        one_moment="Bir saniye, lütfen.",
        line_interrupted="Özür dilerim, hat kesildi. Devam edelim.",
        still_there="Hâlâ hatta mısınız?",
        goodbye="Aradığınız için teşekkür ederim. Hoşça kalın.",
        one_minute_left="Bu görüşme bir dakika içinde sona erecek.",
    ),
    "uk": Sentences(
        apology="Вибачте, сталася технічна помилка. Повторіть, будь ласка.",
        one_moment="Секунду, будь ласка.",
        line_interrupted="Вибачте, зв'язок перервався. Продовжмо.",
        still_there="Ви ще на лінії?",
        goodbye="Дякую за дзвінок. До побачення.",
        one_minute_left="Ця розмова завершиться за хвилину.",
    ),
    "ur": Sentences(
        apology="معذرت، ایک تکنیکی خرابی ہو گئی۔ براہِ کرم اپنی بات دوبارہ کہیے۔",
        one_moment="براہِ کرم ایک لمحہ انتظار کیجیے۔",
        line_interrupted="معذرت، رابطہ منقطع ہو گیا تھا۔ آئیے بات جاری رکھتے ہیں۔",
        still_there="کیا آپ ابھی لائن پر ہیں؟",
        goodbye="کال کرنے کا شکریہ۔ خدا حافظ۔",
        one_minute_left="یہ کال ایک منٹ میں ختم ہو جائے گی۔",
    ),
    "vi": Sentences(
        apology="Xin lỗi, đã có sự cố kỹ thuật. Quý vị có thể nói lại được không?",
        one_moment="Xin vui lòng đợi một chút.",
        line_interrupted="Xin lỗi, đường truyền bị gián đoạn. Chúng ta tiếp tục nhé.",
        still_there="Quý vị còn nghe máy không?",
        goodbye="Cảm ơn quý vị đã gọi. Tạm biệt.",
        one_minute_left="Cuộc gọi này sẽ kết thúc sau một phút.",
    ),
    "zh": Sentences(
        apology="抱歉，我这边出了点问题。您能再说一遍吗？",
        one_moment="请稍等。",
        line_interrupted="抱歉，刚才线路中断了。我们继续。",
        still_there="您还在吗？",
        goodbye="感谢您的来电，再见。",
        one_minute_left="本次通话将在一分钟后结束。",
    ),
}
"""By primary language subtag. Every language of the end-of-turn model is here."""
