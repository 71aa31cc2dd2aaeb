"""The REST API of the controller: a table of routes over the messages of operators.

table      which verb and path is which message, and what its answer holds; a new noun is a row there
answers    the parts of answers that no message describes
schema     JSON schemas of messages, and values as JSON
document   the OpenAPI document, made from the table
requests   from an HTTP request to a message, and from what was wrong to a status
app        the application (Starlette), with the websocket of events
server     the API as part of the controller, loaded with the first request
connections  HTTP connections (uvicorn), each within bounds

A request is handled as the message of an operator whose connection is in memory: it is checked, carried out
and refused by the same code as one of the command line. Only `table` is imported with the controller; the
rest comes with the first HTTP request.
"""
