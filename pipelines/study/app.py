"""The web page of a study: one screen a pair, one request a vote.

Nothing that a browser gets says which run a video is of: videos are addressed by their number in the rater's
own order and by side, and their headers have neither a name nor a time of the file.
"""

from collections.abc import Awaitable, Callable
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Literal

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException as StarletteHTTPException

from pipelines.study.order import Showing, showings
from pipelines.study.plan import Study, StudyError
from pipelines.study.questions import WORDING, Answer, Question
from pipelines.study.votes import AlreadyVotedError, Vote, VoteStore

STATIC = Path(__file__).parent / "static"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; media-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",  # the address holds the rater's token
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}
MOST_BODY_BYTES = 1000  # a vote has a hundred
NO_DATE = "Thu, 01 Jan 1970 00:00:00 GMT"
UNSEEN = "This link leads nowhere. Please open the whole one that you were sent."


class CastVote(BaseModel):
    """What the page sends. number: of the pair in the rater's order, from 0."""

    model_config = ConfigDict(extra="forbid")

    number: Annotated[int, Field(ge=0, strict=True)]
    question: Question
    answer: Answer


class State(BaseModel):
    """What the page shows. number and caption: of the first pair with an open question, None after the last.

    answers: those given to this pair. votes: of the rater so far, out of `of`.
    """

    number: int | None
    pairs: int
    votes: int
    of: int
    caption: str | None
    answers: dict[Question, Answer]


class Booth:
    """What one rater sees and says."""

    def __init__(self, study: Study, store: VoteStore) -> None:
        self.study, self.store = study, store
        self.showings = cache(lambda rater: showings(study, rater))

    def showing(self, rater: int, number: int) -> Showing:
        shown: tuple[Showing, ...] = self.showings(rater)
        if number >= len(shown):
            raise HTTPException(HTTPStatus.NOT_FOUND, f"there are {len(shown)} pairs, counted from 0")
        return shown[number]

    def state(self, rater: int) -> State:
        given: dict[int, dict[Question, Answer]] = {}
        votes = self.store.votes(rater)
        for vote in votes:
            given.setdefault(vote.pair, {})[vote.question] = vote.answer
        shown = self.showings(rater)
        pairs = [showing.pair for showing in shown]
        number = next((n for n, pair in enumerate(pairs) if len(given.get(pair, ())) < len(Question)), None)
        clip = None if number is None else self.study.clips[self.study.pairs[pairs[number]].clip]
        return State(
            number=number,
            pairs=len(pairs),
            votes=len(votes),
            of=len(pairs) * len(Question),
            caption=clip and clip.caption,
            answers={} if number is None else given.get(pairs[number], {}),
        )

    def vote(self, rater: int, cast: CastVote) -> None:
        showing = self.showing(rater, cast.number)
        left, right = (self.study.contestants[i].name for i in (showing.left, showing.right))
        self.store.add(Vote(rater, showing.pair, cast.question, left, right, cast.answer))

    def video(self, rater: int, number: int, side: str) -> Response:
        """The file as it is, with ranges, without which iPhones play nothing."""
        showing = self.showing(rater, number)
        contestant = showing.left if side == "left" else showing.right
        clip = self.study.pairs[showing.pair].clip
        try:
            path = self.study.video(clip, contestant)
        except StudyError as error:
            raise HTTPException(HTTPStatus.NOT_FOUND, "this video is gone") from error
        headers = {
            "ETag": f'"{self.study.clips[clip].sha256[contestant]}"',
            "Last-Modified": NO_DATE,  # a file's time would tell which videos were drawn together
            "Cache-Control": "private, max-age=3600",
        }
        return FileResponse(path, media_type="video/mp4", headers=headers)


def create_app(study: Study, store: VoteStore) -> FastAPI:
    """The study's pages as an ASGI application."""
    app = FastAPI(title="Video study", docs_url=None, redoc_url=None, openapi_url=None)
    booth = Booth(study, store)
    pages = Environment(
        loader=PackageLoader("pipelines.study"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = pages.get_template("page.html").render(wording=WORDING, pairs=len(study.pairs))

    def rater_of(token: str) -> int:
        rater = store.rater(token)
        if rater is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, UNSEEN)
        return rater

    Rater = Annotated[int, Depends(rater_of)]  # noqa: N806

    app.mount("/assets", StaticFiles(directory=STATIC))

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        large = _body_is_large(request)
        response = (
            Response(status_code=HTTPStatus.REQUEST_ENTITY_TOO_LARGE) if large else await call_next(request)
        )
        for name, value in HEADERS.items():
            response.headers[name] = value
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    @app.exception_handler(StarletteHTTPException)
    def show_error(request: Request, error: StarletteHTTPException) -> Response:
        text = error.detail if error.detail != HTTPStatus.NOT_FOUND.phrase else UNSEEN
        shown = pages.get_template("message.html").render(text=text)
        return HTMLResponse(shown, error.status_code)

    @app.get("/{token}", response_class=HTMLResponse)
    def show_page(rater: Rater) -> str:
        return page

    @app.get("/{token}/state")
    def show_state(rater: Rater) -> State:
        return booth.state(rater)

    @app.post("/{token}/votes", status_code=HTTPStatus.CREATED)
    def cast_vote(rater: Rater, cast: CastVote) -> State:
        try:
            booth.vote(rater, cast)
        except AlreadyVotedError as error:
            raise HTTPException(HTTPStatus.CONFLICT, "this question has its answer already") from error
        return booth.state(rater)

    @app.delete("/{token}/votes")
    def undo_vote(rater: Rater) -> State:
        if not store.undo(rater):
            raise HTTPException(HTTPStatus.CONFLICT, "there is no answer to take back")
        return booth.state(rater)

    @app.get("/{token}/{number}/{side}.mp4")
    def show_video(
        rater: Rater,
        number: Annotated[int, Field(ge=0)],
        side: Literal["left", "right"],
    ) -> Response:
        return booth.video(rater, number, side)

    return app


def _body_is_large(request: Request) -> bool:
    """Or of unknown size. It would be read into memory before anybody asks whose link this is."""
    headers = request.headers
    return "transfer-encoding" in headers or int(headers.get("content-length", 0)) > MOST_BODY_BYTES
